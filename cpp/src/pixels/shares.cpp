#include "shares.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>

#include "kernels.hpp"

namespace vitrify::pixels {
namespace {

// A further thread has to end the image sooner by this much. Starting it, and a decoder, was seen to take half of that.
constexpr double kLeastGainNs = 400'000;
// And by this part of the time on one thread, as it decodes again what those before it have decoded.
constexpr double kLeastGain = 0.05;

// How long shares take that end at the same time, in rows that are decoded. Share i skips begin(i) rows at `skip` each
// and decodes what is left of its time: begin(i + 1) = time + (1 - skip) * begin(i).
double time_of(Range rows, double skip, std::size_t shares) {
  const double rest = std::pow(1 - skip, static_cast<double>(shares));
  return skip > 0 ? skip * (rows.end - rest * rows.begin) / (1 - rest)
                  : static_cast<double>(rows.size()) / static_cast<double>(shares);
}

}  // namespace

void copy_row(const Row& row, Range columns, std::uint8_t* rgb) {
  const auto first = static_cast<std::size_t>(columns.begin - row.first_column);
  const auto pixels = static_cast<std::size_t>(columns.size());
  if (row.rgb != nullptr) {
    std::memcpy(rgb, row.rgb + 3 * first, 3 * pixels);
    return;
  }
  const std::uint8_t* const planes[3] = {row.planes[0] + first, row.planes[1] + first, row.planes[2] + first};
  kernels().join(planes, pixels, rgb);
}

SinkFrom copy_to(std::uint8_t* memory, Range columns, int first_row) {
  const std::size_t bytes = 3 * static_cast<std::size_t>(columns.size());
  return [=](int begin) -> RowSink {
    std::uint8_t* const first = memory + static_cast<std::size_t>(begin - first_row) * bytes;
    return [bytes, columns, out = first](const Row& row) mutable {
      copy_row(row, columns, out);
      out += bytes;
    };
  };
}

std::vector<Range> share_out(Range rows, RowCost cost, std::size_t most) {
  const double skip = cost.decode_ns > 0 ? std::min(1.0, cost.skip_ns / cost.decode_ns) : 1;
  const double alone = time_of(rows, skip, 1);
  std::size_t shares = 1;
  while (shares < most && shares < static_cast<std::size_t>(rows.size())) {
    const double gain = time_of(rows, skip, shares) - time_of(rows, skip, shares + 1);
    if (gain < kLeastGain * alone || gain * cost.decode_ns < kLeastGainNs) {
      break;
    }
    ++shares;
  }
  const double time = time_of(rows, skip, shares);
  std::vector<Range> ranges;
  Range share = rows;
  for (std::size_t i = 1; i < shares; ++i) {
    // None is empty: the last one looks at the end of the file.
    const int left = static_cast<int>(shares - i);
    share.end =
        std::clamp(static_cast<int>(std::lround(time + (1 - skip) * share.begin)), share.begin + 1, rows.end - left);
    ranges.push_back(share);
    share.begin = share.end;
  }
  share.end = rows.end;
  ranges.push_back(share);
  return ranges;
}

void read_shares(Reader& reader, Range columns, const std::vector<Range>& shares, const SinkFrom& sink_from,
                 Workers& workers) {
  const std::size_t last = shares.size() - 1;
  std::vector<std::unique_ptr<Reader>> others;
  while (others.size() < last) {
    others.push_back(reader.again());
  }
  std::vector<std::exception_ptr> errors(shares.size());
  workers.each(shares.size(), [&](std::size_t i) {
    try {
      const RowSink sink = sink_from(shares[i].begin);
      if (i == last) {
        reader.read(columns, shares[i], sink);
      } else {
        others[i]->read_rows(columns, shares[i], sink);
      }
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  // The last share's reader passes over the whole file, and so over all that is wrong with it, in one thread's order.
  for (std::size_t i = shares.size(); i-- > 0;) {
    if (errors[i]) {
      std::rethrow_exception(errors[i]);
    }
  }
}

void read_shared(Reader& reader, Range columns, Range rows, const SinkFrom& sink_from, Workers& workers,
                 std::size_t most) {
  const RowCost cost = most > 1 ? reader.row_cost(columns) : RowCost{};
  std::vector<Range> shares = share_out(rows, cost, most);
  if (shares.size() > 1) {
    shares = share_out(rows, cost, workers.available(shares.size()));
  }
  if (shares.size() == 1) {
    reader.read(columns, rows, sink_from(rows.begin));
  } else {
    read_shares(reader, columns, shares, sink_from, workers);
  }
}

}  // namespace vitrify::pixels
