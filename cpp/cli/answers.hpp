// Predictions as a table or as JSON lines, in the words of `vitrify predict`.
#pragma once

#include <ostream>
#include <string>

#include "table.hpp"
#include "vitrify/classifier.hpp"

namespace vitrify::cli {

enum class OutputFormat { table, jsonl };

// A table appears whole at `finish`, JSON line by line.
class AnswerWriter {
 public:
  AnswerWriter(OutputFormat format, std::ostream& out);

  void write(const std::string& name, const Answer& answer);
  void finish();

 private:
  OutputFormat format_;
  std::ostream* out_;
  Table table_;
};

}  // namespace vitrify::cli
