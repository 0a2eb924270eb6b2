// Rows ranked by all that is known of them: how near they are in meaning, how early they come to the words of the query,
// how well their session and the turns beside them do, whether the query names who spoke, and how much they tell at all.
//
//     u(row) = (similarity - mean) / deviation + 2.2 coverage / sqrt(idfs of the query's terms)
//     s(row) = u + lean (0.3 (u[-1] + u[1]) + 0.2 (u[-2] + u[2])) + best u of the session + 2 named + worth
//     lean   = 1 / (1 + (length / 1200)^2)
//
// u[i] is that of the i-th turn after it in its session, 0 where there is none. A short turn leans on what stands around
// it, a long one speaks for itself. Mean and deviation are those of a sample of rows; what is known of rows in general
// keeps a small sample from misleading.
//
// Scored are the rows that are near or say the words, and those beside them. What no arm has found is estimated by its code
// first, and looked at itself only where a score that may be among the best is made of it: what is returned is exact.
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

// A search. The lists of texts are terms of the query, and what is noted with rows of a role that it names.
struct Blended {
    const float *vector = nullptr;
    std::span<const std::string_view> terms;
    std::span<const std::string_view> named;
    std::size_t k = 0;
    std::size_t ef = 0;
    const LabelSet *among = nullptr;
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
