// Bytes as an .onnx file: a spec that can be used, or an error of the file or of its spec.
#include <unistd.h>

#include <fstream>
#include <string>

#include "vitrify/spec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string path = "/dev/shm/fuzz-artifact-" + std::to_string(getpid()) + ".onnx";
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    static_cast<void>(vitrify::read_spec(path));
  } catch (const vitrify::ArtifactError&) {
  } catch (const vitrify::SpecError&) {
  }
  return 0;
}
