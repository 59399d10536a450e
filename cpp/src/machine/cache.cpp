#include "cache.hpp"

#include <cstdlib>

namespace vitrify::machine {
namespace {

std::filesystem::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::filesystem::path cache_folder() {
  if (const auto own = variable("VITRIFY_CACHE"); !own.empty()) {
    return own;
  }
  if (const auto caches = variable("XDG_CACHE_HOME"); !caches.empty()) {
    return caches / "vitrify";
  }
  const auto home = variable("HOME");
  return home.empty() ? home : home / ".cache" / "vitrify";
}

}  // namespace vitrify::machine
