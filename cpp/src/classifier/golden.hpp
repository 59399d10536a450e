// How far logits are from the golden ones, by the gates of docs/reference/spec.md.
#pragma once

#include <vector>

#include "vitrify/classifier.hpp"

namespace vitrify::classifier {

class GoldenComparison {
 public:
  // fp32 has a tight gate, every other arithmetic that of bf16.
  explicit GoldenComparison(Precision precision);

  // `logits` has as many values as `golden`.
  void add(const std::vector<float>& golden, const float* logits);
  [[nodiscard]] GoldenReport report() const;

 private:
  double absolute_;
  double relative_;
  GoldenReport report_;
};

}  // namespace vitrify::classifier
