// Text for messages.
#pragma once

#include <string>

namespace vitrify {

// The items of a range of texts, `between` each two.
template <typename Items>
[[nodiscard]] std::string joined(const Items& items, const char* between = ", ") {
  std::string text;
  bool first = true;
  for (const auto& item : items) {
    text += first ? "" : between;
    text += item;
    first = false;
  }
  return text;
}

}  // namespace vitrify
