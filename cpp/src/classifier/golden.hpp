// How far logits are from the golden ones, by the gates of docs/reference/spec.md.
#pragma once

#include <cstddef>
#include <vector>

#include "vitrify/classifier.hpp"

namespace vitrify::classifier {

class GoldenComparison {
 public:
  // What the engine computes in and what the graph's own types say decide the gate: an 8-bit graph is no more exact
  // where the rest of it runs in bf16. Golden inputs are noise, between whose classes there is no margin: a reduced
  // precision is held to its errors, not to its best labels.
  GoldenComparison(Precision arithmetic, Precision graph);

  // The logits of that vector have as many values as the golden ones.
  void add(std::size_t vector, const std::vector<float>& golden, const float* logits);
  [[nodiscard]] GoldenReport report() const;

 private:
  struct Gate {
    double absolute;
    double relative;
    bool top1;
  };
  static Gate gate_for(Precision arithmetic);

  Gate gate_;
  GoldenReport report_;
};

// Runs the golden vectors, each alone and then all in one batch. `arithmetic` is what the engine computes in. Throws
// SpecError where there are none.
[[nodiscard]] GoldenReport compare_golden(const ModelSpec& spec, Engine& engine, Precision arithmetic);

}  // namespace vitrify::classifier
