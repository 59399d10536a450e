// Logits to labels with probabilities.
#pragma once

#include <string>
#include <vector>

#include "vitrify/classifier.hpp"

namespace vitrify::classifier {

// Throws RuntimeFailureError, which says to what image the logits belong, where one of them is NaN or infinite.
void require_finite(const float* logits, const ModelSpec& spec, const std::string& image);

// Softmax over the classes, or the sigmoid of each for a multi-label model, in double. `scores` has one value a label.
[[nodiscard]] std::vector<double> probabilities(const float* scores, const ModelSpec& spec);

// The `count` most probable labels, best first, equal ones in their order; fewer where there are fewer.
[[nodiscard]] std::vector<LabelScore> top_labels(const std::vector<double>& probabilities,
                                                 const std::vector<std::string>& labels, std::size_t count);

}  // namespace vitrify::classifier
