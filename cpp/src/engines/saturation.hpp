// Whether this processor multiplies an 8-bit network's numbers without losing any.
#pragma once

#include <string>

#include "machine/processor.hpp"
#include "vitrify/engine.hpp"

namespace vitrify::engines {

// Throws ProcessorError for an int8 network on a processor whose 8-bit products saturate, unless its weights keep them
// small enough or it is dequantised.
void require_exact_products(const std::string& path, const ModelSpec& spec, const EngineOptions& options,
                            const machine::Processor& here);

}  // namespace vitrify::engines
