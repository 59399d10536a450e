// Columns of text, as wide as what is in them.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace vitrify::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}

  // As many cells as the header has.
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace vitrify::cli
