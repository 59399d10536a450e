// What the processor is, and which of its instruction sets matter to a network's arithmetic.
#pragma once

#include <string>
#include <vector>

#include "vitrify/export.h"

namespace vitrify::machine {

struct Processor {
  std::string name;  // such as "AMD EPYC 7B13"; empty where it does not say
  // Of these, in this order, as Linux calls them, those that the processor has and the operating system enables:
  //   x86-64  avx2 avx512f avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_int8
  //   arm64   neon asimddp i8mm bf16
  std::vector<std::string> instruction_sets;
  bool x86 = false;

  [[nodiscard]] bool has(const std::string& instruction_set) const;

  // Whether products of unsigned by signed bytes go through `vpmaddubsw`, which adds two neighbours into 16 bits and
  // saturates: on x86-64 without a dot product of bytes.
  [[nodiscard]] bool saturates_8bit() const;
};

// This machine's, read once.
[[nodiscard]] const Processor& processor();

// For tests: what `processor` gives from now on; null for this machine's.
VITRIFY_API void pretend(const Processor* other) noexcept;

[[nodiscard]] inline bool saturates_8bit() { return processor().saturates_8bit(); }

}  // namespace vitrify::machine
