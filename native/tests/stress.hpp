// What the parts of the stress test have in common.
#pragma once

#include <string>

// Counts down to an allocation of this thread that fails; below zero none does.
extern thread_local int allocations_left;

// Ends the test with a message where the condition does not hold.
void require(bool condition, const std::string &what);

// The parts beside the graph.
void stress_turns();
void stress_words();
void stress_blend();
