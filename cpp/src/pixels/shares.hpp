// The rows of one image, decoded by several readers of the same bytes at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "reader.hpp"
#include "workers.hpp"

namespace vitrify::pixels {

// Makes what takes the rows from `row` on. Several sinks may be at work at once, each on rows of its own.
using SinkFrom = std::function<RowSink(int row)>;

// Copies `columns` of a row, interleaved.
void copy_row(const Row& row, Range columns, std::uint8_t* rgb);

// Copies `columns` of the rows to memory, where row `first_row` comes first and the others follow.
[[nodiscard]] SinkFrom copy_to(std::uint8_t* memory, Range columns, int first_row);

// Where to part the rows: shares in order, of which each reader skips to its own, so that all end at the same time. One
// share where more of them, up to `most`, save too little.
[[nodiscard]] std::vector<Range> share_out(Range rows, RowCost cost, std::size_t most);

// Decodes as Reader::read does, every share by a reader of its own, and throws what Reader::read throws.
void read_shares(Reader& reader, Range columns, const std::vector<Range>& shares, const SinkFrom& sink_from,
                 Workers& workers);

// Shares the rows out to `most` threads at most, the caller's included: those of the workers that have nothing to do.
void read_shared(Reader& reader, Range columns, Range rows, const SinkFrom& sink_from, Workers& workers,
                 std::size_t most);

}  // namespace vitrify::pixels
