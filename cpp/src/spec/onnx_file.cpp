#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "onnx_form.hpp"
#include "vitrify/error.hpp"

namespace vitrify::spec {

void require_known_form(const std::string& path) {
  const auto unreadable = [&] { return ArtifactError("cannot read " + path, std::strerror(errno)); };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    throw unreadable();
  }
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const auto size = static_cast<std::size_t>(status.st_size);
  // Mapped: only what the walk looks at is read, which leaves out the weights.
  void* memory = known && size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
  ::close(descriptor);
  if (memory == MAP_FAILED) {
    throw unreadable();
  }
  const auto unmap = [size](void* mapped) { ::munmap(mapped, size); };
  const std::unique_ptr<void, decltype(unmap)> mapped(memory, unmap);
  if (const auto fault = onnx_fault(static_cast<const std::uint8_t*>(memory), size)) {
    throw ArtifactError(path + " is no ONNX file that vitrify runs", fault->got, fault->expected,
                        "export the checkpoint again with vitrify export; a file of somebody else may do harm");
  }
}

}  // namespace vitrify::spec
