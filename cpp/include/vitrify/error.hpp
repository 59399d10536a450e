// Every error that vitrify throws on purpose, under the names that Python gives them.
//
// Error                         a message with problem, got, expected, hint
// ├── InputError                what the caller gave cannot be used
// │   ├── OptionError           an option's value, or one that the artifact contradicts
// │   ├── ImageError            bytes that are no readable image
// │   ├── ArtifactError         a file that is no artifact of the kind that is meant
// │   │   ├── EngineError       a TensorRT engine that cannot run here: other version or GPU, no manifest, damaged
// │   │   ├── ProcessorError    8-bit weights whose products would saturate on this processor
// │   │   └── SelfTestError     golden logits that this machine does not give
// │   └── SpecError             a model spec that is invalid
// │       ├── SpecMissingError  the file carries none
// │       └── SpecVersionError  written by a newer vitrify
// └── RuntimeFailureError       an inference runtime refused a model or a batch
//     └── DeviceError           no GPU, a driver that is too old, or not enough GPU memory
#pragma once

#include <stdexcept>
#include <string>

#include "vitrify/export.h"

namespace vitrify {

// What happened, what was found, what would have been accepted, how to go on. A part is empty where there is nothing to
// say; what() has them all, laid out as in Python.
class VITRIFY_API Error : public std::runtime_error {
 public:
  explicit Error(std::string problem, std::string got = {}, std::string expected = {}, std::string hint = {});

  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] const std::string& got() const noexcept { return got_; }
  [[nodiscard]] const std::string& expected() const noexcept { return expected_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

 private:
  std::string problem_;
  std::string got_;
  std::string expected_;
  std::string hint_;
};

class VITRIFY_API InputError : public Error {
  using Error::Error;
};

class VITRIFY_API OptionError : public InputError {
  using InputError::InputError;
};

class VITRIFY_API ImageError : public InputError {
  using InputError::InputError;
};

class VITRIFY_API ArtifactError : public InputError {
  using InputError::InputError;
};

class VITRIFY_API EngineError : public ArtifactError {
  using ArtifactError::ArtifactError;
};

class VITRIFY_API ProcessorError : public ArtifactError {
  using ArtifactError::ArtifactError;
};

class VITRIFY_API SelfTestError : public ArtifactError {
  using ArtifactError::ArtifactError;
};

class VITRIFY_API SpecError : public InputError {
  using InputError::InputError;
};

class VITRIFY_API SpecMissingError : public SpecError {
  using SpecError::SpecError;
};

class VITRIFY_API SpecVersionError : public SpecError {
  using SpecError::SpecError;
};

class VITRIFY_API RuntimeFailureError : public Error {
  using Error::Error;
};

class VITRIFY_API DeviceError : public RuntimeFailureError {
  using RuntimeFailureError::RuntimeFailureError;
};

}  // namespace vitrify
