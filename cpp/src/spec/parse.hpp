// JSON to a spec, for what carries one.
#pragma once

#include <string_view>

#include "fields.hpp"
#include "vitrify/spec.hpp"

namespace vitrify::spec {

// Parses text that a file holds. Throws SpecError for what is no JSON or is nested too deeply.
[[nodiscard]] Json json_of(std::string_view text);

// Throws SpecError, which names the field, or SpecVersionError.
[[nodiscard]] ModelSpec spec_of(const Value& value);

[[nodiscard]] Precision precision_of(const Value& value);

}  // namespace vitrify::spec
