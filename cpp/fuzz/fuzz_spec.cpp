// JSON to a spec: whatever it is, a spec that can be used or a SpecError.
#include <cstdlib>
#include <string_view>

#include "vitrify/spec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const vitrify::ModelSpec spec = vitrify::parse_spec({reinterpret_cast<const char*>(data), size});
    if (spec.labels.empty() || spec.tensor_size() == 0) {
      std::abort();
    }
    static_cast<void>(spec.allows("openvino", vitrify::Precision::bf16));
  } catch (const vitrify::SpecError&) {
  }
  return 0;
}
