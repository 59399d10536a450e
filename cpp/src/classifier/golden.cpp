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

void GoldenComparison::add(std::size_t vector, const std::vector<float>& golden, const float* logits) {
  ++report_.comparisons;
  for (std::size_t i = 0; i < golden.size(); ++i) {
    const double truth = golden[i];
    const bool finite = std::isfinite(golden[i]) && std::isfinite(logits[i]);
    const double error = finite ? std::fabs(logits[i] - truth) : kNoNumber;
    const double use = finite ? error / (gate_.absolute + gate_.relative * std::fabs(truth)) : kNoNumber;
    report_.max_absolute_error = std::max(report_.max_absolute_error, error);
    if (use > report_.gate_use) {
      report_.gate_use = use;
      report_.worst = {vector, i, golden[i], logits[i]};
    }
  }
  const auto best = [&](const float* row) { return std::max_element(row, row + golden.size()) - row; };
  report_.top1_agrees = report_.top1_agrees && best(golden.data()) == best(logits);
}

GoldenReport GoldenComparison::report() const {
  GoldenReport result = report_;
  result.passed = result.gate_use <= 1 && (result.top1_agrees || !gate_.top1);
  return result;
}

GoldenReport compare_golden(const ModelSpec& spec, Engine& engine, Precision arithmetic) {
  if (spec.golden.empty()) {
    throw SpecError("the artifact has no golden vectors", {}, {}, "export it again");
  }
  const std::size_t count = spec.golden.size();
  const std::size_t stride = spec.tensor_size();
  const std::size_t classes = spec.labels.size();
  std::vector<float> tensors;
  tensors.reserve(count * stride);
  for (const GoldenVector& vector : spec.golden) {
    const std::vector<float> tensor = golden_input(spec.preprocess.crop, vector.seed, vector.cell);
    tensors.insert(tensors.end(), tensor.begin(), tensor.end());
  }
  // Each alone, then all in one batch: a graph whose batch axis is broken is right in one of the two only.
  GoldenComparison comparison(arithmetic, spec.precision);
  std::vector<float> logits(count * classes);
  for (const std::size_t batch : {std::size_t{1}, count}) {
    for (std::size_t begin = 0; begin < count; begin += batch) {
      engine.infer(tensors.data() + begin * stride, batch, logits.data() + begin * classes);
    }
    for (std::size_t i = 0; i < count; ++i) {
      comparison.add(i, spec.golden[i].logits, logits.data() + i * classes);
    }
  }
  return comparison.report();
}

}  // namespace vitrify::classifier
