#include "saturation.hpp"

#include "text.hpp"
#include "vitrify/error.hpp"

namespace vitrify::engines {

void require_exact_products(const std::string& path, const ModelSpec& spec, const EngineOptions& options,
                            const machine::Processor& here) {
  if (spec.precision != Precision::int8 || spec.saturation_free || options.dequantize || !here.saturates_8bit()) {
    return;
  }
  const std::string sets = joined(here.instruction_sets, " ");
  throw ProcessorError("the 8-bit products of " + path + " saturate on this processor, whose answers would be others",
                       here.name + ", " + (sets.empty() ? "none of the instruction sets" : sets),
                       "avx_vnni, avx512_vnni or amx_int8; or weights that are free of saturation on every processor",
                       "quantize it again with this vitrify, or ask for precision fp32, which runs it dequantised");
}

}  // namespace vitrify::engines
