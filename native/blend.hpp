// Rows ranked by all that is known of them: how near they are in meaning, how early they come to the words of the query,
// how well their session and the turns beside them do, whether the query names who spoke or when, and how much they tell
// at all.
//
//     u(row) = (similarity - mean) / deviation + 2.2 coverage / sqrt(idfs of the query's terms)
//     s(row) = u + lean (0.3 (u[-1] + u[1]) + 0.2 (u[-2] + u[2])) + 0.35 best + 0.35 near
//              + 2.5 named + 2 present + 1.5 dates + worth
//     lean   = 1 / (1 + (length / 1200)^2)
//     best   = the best u of the session
//     near   = the best u[i] - 0.05 |i| of the session
//
// u[i] is that of the i-th turn after it in its session, 0 where there is none. A short turn leans on what stands around
// it, a long one speaks for itself. Mean and deviation are those of the rows that are scored; what is known of rows in
// general keeps a few rows from misleading. `present` is 1 where one who is named speaks in the session at all, in a row that is
// scored. `dates` is 1 for a row of a month that is named, 2 for one of a day that is.
//
// Scored are the rows that are near or say the words, and those beside them; or all, where it is to be exact, but mean and
// deviation are those of the same rows then, too.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "flat.hpp"
#include "labels.hpp"
#include "turns.hpp"
#include "words.hpp"

namespace llmspell {

// A day that a query names, or a month (day 0); of any year where that is 0.
struct NamedDate {
    int year = 0;
    unsigned month = 1;
    unsigned day = 0;
};

// A search. The lists of texts are terms of the query, and what is noted with rows of a role that it names.
struct Blended {
    const float *vector = nullptr;
    std::span<const std::string_view> terms;
    std::span<const std::string_view> named;
    std::span<const NamedDate> dates;
    std::size_t k = 0;
    std::size_t ef = 0;
    const LabelSet *among = nullptr;
    bool worth = true;   // whether it counts how much a row tells, whatever is asked
    bool exact = false;  // every row is scored, and not only those that are near, say the words, or stand beside such
};

// Labels and scores, best first, equal ones by label; and for each what its score is made of.
struct Parts {
    float similarity;
    float coverage;
    float by_meaning;
    float by_words;
    float by_neighbours;
    float by_session;
    float by_role;
    float by_time;
    float by_worth;
    std::int32_t rank_by_meaning;  // from 1 up; 0 where this arm has not found it
    std::int32_t rank_by_words;
};

struct Blend {
    std::vector<Label> labels;
    std::vector<float> scores;
    std::vector<Parts> parts;
};

Blend blend(const FlatIndex &index, const Words &words, const TurnTable &turns, const Blended &wanted);

}  // namespace llmspell
