// What the parts of the stress test have in common.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

// Counts down to an allocation of this thread that fails; below zero none does.
extern thread_local int allocations_left;

// Ends the test with a message where the condition does not hold.
void require(bool condition, const std::string &what);

// A path of this process's own, which is not there; its name has letters of several scripts.
std::filesystem::path scratch_file(const std::string &name);

std::vector<char> bytes_of(const std::filesystem::path &path);

// Changes one byte of a file, at times cutting it, many times over, each time from the whole file: `open` must throw Damaged,
// which it mostly does, or find that nothing of what matters is changed. Then removes the file.
void damage(const std::filesystem::path &path, const std::function<void()> &open);

// The parts beside the graph.
void stress_platform();
void stress_turns();
void stress_words();
void stress_blend();
