// Columns of text, as wide as what is in them.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace vitrify::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}

  // As many cells as the header has. A character that would move the cursor becomes a question mark.
  void add(std::vector<std::string> row);
  void print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace vitrify::cli
