#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace vitrify::classifier {
namespace {

// Stands for an error that is no number; it fails every gate.
constexpr double kNoNumber = 1e30;

}  // namespace

GoldenComparison::Gate GoldenComparison::gate_for(Precision arithmetic) {
  switch (arithmetic) {
    case Precision::fp32:
      return {1e-4, 1e-3, true};
    case Precision::fp16:
      return {0.05, 0.02, false};
    case Precision::bf16:
      return {0.1, 0.05, false};
    default:
      return {0.5, 0.1, false};
  }
}

GoldenComparison::GoldenComparison(Precision arithmetic, Precision graph) : gate_(gate_for(arithmetic)) {
  const Gate other = gate_for(graph);
  if (other.absolute > gate_.absolute) {
    gate_ = other;
  }
}

void GoldenComparison::add(const std::vector<float>& golden, const float* logits) {
  ++report_.comparisons;
  for (std::size_t i = 0; i < golden.size(); ++i) {
    const double truth = golden[i];
    const bool finite = std::isfinite(golden[i]) && std::isfinite(logits[i]);
    const double error = finite ? std::fabs(logits[i] - truth) : kNoNumber;
    const double use = finite ? error / (gate_.absolute + gate_.relative * std::fabs(truth)) : kNoNumber;
    report_.max_absolute_error = std::max(report_.max_absolute_error, error);
    report_.gate_use = std::max(report_.gate_use, use);
  }
  const auto best = [&](const float* row) { return std::max_element(row, row + golden.size()) - row; };
  report_.top1_agrees = report_.top1_agrees && best(golden.data()) == best(logits);
}

GoldenReport GoldenComparison::report() const {
  GoldenReport result = report_;
  result.passed = result.gate_use <= 1 && (result.top1_agrees || !gate_.top1);
  return result;
}

}  // namespace vitrify::classifier
