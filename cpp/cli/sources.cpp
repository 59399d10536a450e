#include "sources.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>

namespace vitrify::cli {
namespace {

namespace fs = std::filesystem;

// The same as vitrify.pixels.IMAGE_SUFFIXES, which a test holds.
constexpr const char* kSuffixes[] = {".jpg", ".jpeg", ".png", ".webp", ".bmp"};

bool is_image(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) != std::end(kSuffixes);
}

void add_folder(const std::string& name, std::vector<NamedImage>& sources) {
  std::vector<fs::path> found;
  std::error_code unreadable;
  const auto options = fs::directory_options::skip_permission_denied;
  for (auto entry = fs::recursive_directory_iterator(name, options, unreadable);
       !unreadable && entry != fs::recursive_directory_iterator(); entry.increment(unreadable)) {
    std::error_code ignored;
    if (is_image(entry->path()) && entry->is_regular_file(ignored)) {
      found.push_back(entry->path());
    }
  }
  if (unreadable) {
    throw InputError("cannot read " + name + "/", unreadable.message());
  }
  if (found.empty()) {
    std::string expected = "files ending in";
    for (const char* suffix : kSuffixes) {
      expected += std::string(" ") + suffix;
    }
    throw InputError("no images in " + name + "/", {}, expected);
  }
  std::sort(found.begin(), found.end());
  for (const fs::path& path : found) {
    sources.push_back({path.lexically_normal().string(), {}});  // as Python shows them: without ./
  }
}

void add_standard_input(std::istream& input, std::vector<NamedImage>& sources) {
  std::string data{std::istreambuf_iterator<char>(input), std::istreambuf_iterator<char>()};
  if (format_of(reinterpret_cast<const std::uint8_t*>(data.data()), data.size()) != Format::unknown) {
    sources.push_back({{}, std::move(data)});
    return;
  }
  // `find -print0` ends each name with a NUL, since names may hold line breaks.
  const char end = data.find('\0') != std::string::npos ? '\0' : '\n';
  const std::size_t before = sources.size();
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t stop = std::min(data.find(end, at), data.size());
    std::string line = data.substr(at, stop - at);
    if (end == '\n' && !line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (!line.empty()) {
      sources.push_back({std::move(line), {}});
    }
    at = stop + 1;
  }
  if (sources.size() == before) {
    throw InputError("standard input is empty", {}, "an encoded image, or one path a line");
  }
}

}  // namespace

ImageSource NamedImage::image() const {
  return path.empty() ? ImageSource::encoded(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size())
                      : ImageSource::file(path);
}

std::string NamedImage::name(std::size_t number) const {
  return path.empty() ? "image " + std::to_string(number) : path;
}

std::vector<NamedImage> expand_sources(const std::vector<std::string>& names, std::istream& standard_input) {
  std::vector<NamedImage> sources;
  for (const std::string& name : names) {
    std::error_code ignored;
    if (name.empty()) {
      throw InputError("the name of an image is empty", {}, "files, folders, or -");
    }
    if (name == "-") {
      add_standard_input(standard_input, sources);
    } else if (fs::is_directory(name, ignored)) {
      add_folder(name, sources);
    } else {
      sources.push_back({name, {}});
    }
  }
  return sources;
}

}  // namespace vitrify::cli
