// Where this user's caches are.
#pragma once

#include <filesystem>

namespace vitrify::machine {

// $VITRIFY_CACHE, else $XDG_CACHE_HOME/vitrify, else ~/.cache/vitrify; empty where none of them is known. It need not
// exist.
[[nodiscard]] std::filesystem::path cache_folder();

}  // namespace vitrify::machine
