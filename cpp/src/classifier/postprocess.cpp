#include "postprocess.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vitrify::classifier {

void require_finite(const float* logits, const ModelSpec& spec, const std::string& image) {
  const std::size_t count = spec.labels.size();
  const float* bad = std::find_if(logits, logits + count, [](float value) { return !std::isfinite(value); });
  if (bad != logits + count) {
    throw RuntimeFailureError("the network's answer to " + image + " is no number",
                              "'" + spec.labels[static_cast<std::size_t>(bad - logits)] + "': " + std::to_string(*bad),
                              "finite logits",
                              "a reduced precision may overflow: ask for fp32; vitrify-classify --verify says whether "
                              "the model is right on this machine");
  }
}

std::vector<double> probabilities(const float* scores, const ModelSpec& spec) {
  std::vector<double> values(scores, scores + spec.labels.size());
  if (spec.output.kind == OutputKind::probabilities) {
    return values;
  }
  if (spec.output.task == Task::multi_label) {
    for (double& value : values) {
      // Neither exponential overflows.
      const double small = std::exp(-std::fabs(value));
      value = (value < 0 ? small : 1.0) / (1.0 + small);
    }
    return values;
  }
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& value : values) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double& value : values) {
    value /= sum;
  }
  return values;
}

std::vector<LabelScore> top_labels(const std::vector<double>& probabilities, const std::vector<std::string>& labels,
                                   std::size_t count) {
  std::vector<std::size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::size_t a, std::size_t b) {
                      return probabilities[a] != probabilities[b] ? probabilities[a] > probabilities[b] : a < b;
                    });
  std::vector<LabelScore> top;
  top.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    top.push_back({labels[order[i]], order[i], probabilities[order[i]]});
  }
  return top;
}

}  // namespace vitrify::classifier
