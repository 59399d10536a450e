#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engines/sha256.hpp"
#include "onnx_form.hpp"
#include "vitrify/error.hpp"

namespace vitrify::spec {
namespace {

// A file in memory, of which only what is looked at is read.
class Mapped {
 public:
  explicit Mapped(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (descriptor >= 0 && ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    const int error = errno;
    if (descriptor >= 0) {
      ::close(descriptor);
    }
    if (data_ == MAP_FAILED) {
      throw ArtifactError("cannot read " + path, std::strerror(error));
    }
  }
  ~Mapped() { ::munmap(data_, size_); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

  [[nodiscard]] const std::uint8_t* begin() const { return static_cast<const std::uint8_t*>(data_); }
  [[nodiscard]] const std::uint8_t* end() const { return begin() + size_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  void* data_ = MAP_FAILED;
  std::size_t size_ = 0;
};

void require_known(const std::string& path, const std::uint8_t* data, std::size_t size) {
  if (const auto fault = onnx_fault(data, size)) {
    throw ArtifactError(path + " is no ONNX file that vitrify runs", fault->got, fault->expected,
                        "export the checkpoint again with vitrify export; a file of somebody else may do harm");
  }
}

}  // namespace

void require_known_form(const std::string& path) {
  const Mapped file(path);
  require_known(path, file.begin(), file.size());
}

std::string known_content(const std::string& path) {
  std::string content;
  {
    const Mapped file(path);
    content.assign(file.begin(), file.end());  // a copy: what is mapped changes with the file
  }
  require_known(path, reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
  return content;
}

void require_sealed(const std::string& path, const std::string& sha256) {
  if (sha256.empty()) {
    return;
  }
  const Mapped file(path);
  const std::string blank(64, '0');
  const auto digits = std::find_end(file.begin(), file.end(), sha256.begin(), sha256.end());
  std::string found;
  if (digits != file.end() && sha256.size() == blank.size()) {
    engines::Sha256 digest;
    digest.update(file.begin(), static_cast<std::size_t>(digits - file.begin()));
    digest.update(blank.data(), blank.size());
    const auto* rest = digits + blank.size();
    digest.update(rest, static_cast<std::size_t>(file.end() - rest));
    found = digest.finish();
  }
  if (found != sha256) {
    throw ArtifactError(path + " is not the file that was written", "sha256 " + found.substr(0, 12),
                        sha256.substr(0, 12) + ", which its spec names",
                        "copy it again; or export the checkpoint again");
  }
}

}  // namespace vitrify::spec
