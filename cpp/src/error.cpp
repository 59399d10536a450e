#include "vitrify/error.hpp"

#include <utility>

namespace vitrify {
namespace {

std::string joined(const std::string& problem, const std::string& got, const std::string& expected,
                   const std::string& hint) {
  std::string text = problem;
  if (!got.empty()) {
    text += "\n  got: " + got;
  }
  if (!expected.empty()) {
    text += "\n  expected: " + expected;
  }
  if (!hint.empty()) {
    text += "\nhint: " + hint;
  }
  return text;
}

}  // namespace

Error::Error(std::string problem, std::string got, std::string expected, std::string hint)
    : std::runtime_error(joined(problem, got, expected, hint)),
      problem_(std::move(problem)),
      got_(std::move(got)),
      expected_(std::move(expected)),
      hint_(std::move(hint)) {}

}  // namespace vitrify
