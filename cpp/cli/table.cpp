#include "table.hpp"

#include <algorithm>
#include <cstdlib>
#include <cwchar>

namespace vitrify::cli {
namespace {

// Columns of a terminal that UTF-8 text takes; main() chose the locale. Bytes that are no text count as one each.
std::size_t width_of(const std::string& text) {
  std::size_t width = 0;
  std::mbstate_t state{};
  for (const char* at = text.data(); at < text.data() + text.size();) {
    wchar_t letter = 0;
    const std::size_t bytes =
        std::mbrtowc(&letter, at, static_cast<std::size_t>(text.data() + text.size() - at), &state);
    if (bytes == 0 || bytes > text.size()) {
      state = {};
      ++at;
      ++width;
      continue;
    }
    width += static_cast<std::size_t>(std::max(wcwidth(letter), 0));
    at += bytes;
  }
  return width;
}

}  // namespace

void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) {
    std::replace_if(cell.begin(), cell.end(), [](unsigned char letter) { return letter < ' ' || letter == 0x7F; }, '?');
  }
  rows_.push_back(std::move(row));
}

void Table::print(std::ostream& out) const {
  std::vector<std::size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  bool header = true;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += (i == 0 ? " " : "  ") + row[i] + std::string(widths[i] - width_of(row[i]), ' ');
    }
    out << line.substr(0, line.find_last_not_of(' ') + 1) << '\n';
    if (header) {
      std::size_t whole = 2 * (widths.size() - 1);
      for (const std::size_t width : widths) {
        whole += width;
      }
      out << ' ';
      for (std::size_t i = 0; i < whole; ++i) {
        out << "─";
      }
      out << '\n';
      header = false;
    }
  }
}

}  // namespace vitrify::cli
