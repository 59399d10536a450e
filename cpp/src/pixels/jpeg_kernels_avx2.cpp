// AVX2 and BMI2: baseline JPEG. This file alone is built with -mavx2 and -mbmi2.
//
// libjpeg-turbo's results to the last bit: its "islow" inverse transform with the widths, and so the wraps and
// saturations, of its SIMD code; its triangle filter for chroma; its 16-bit fixed-point colours.
#include "jpeg_kernels.hpp"

#include <immintrin.h>

#include <cstring>

namespace vitrify::pixels {
namespace {

constexpr int kLook = HuffmanTable::kLook;
constexpr int kLast = 63;  // coefficient of a block
constexpr int kLongestCode = 16;
constexpr int kMostAcBits = 10;
constexpr int kLargestDc = 1 << 14;

// Coefficients of two blocks, row by row beside each other, for the two halves of a register. What an end of block, or
// a coefficient beyond the last one, would write goes to the row behind.
struct alignas(32) Pair {
  static constexpr int kRow = 16;
  std::int16_t values[9 * kRow];

  [[nodiscard]] std::int16_t* block(int number) { return values + 8 * number; }
  void clear(int number) {
    for (int row = 0; row < 9; ++row) {
      _mm_store_si128(reinterpret_cast<__m128i*>(block(number) + kRow * row), _mm_setzero_si128());
    }
  }
};

// Where coefficient k of the zigzag lies in a Pair.
struct Zigzag {
  std::uint8_t at[HuffmanTable::kLong + 64];
};

constexpr Zigzag make_zigzag() {
  Zigzag zigzag{};
  int row = 0;
  int column = 0;
  for (int k = 0; k < 64; ++k) {
    zigzag.at[k] = static_cast<std::uint8_t>(row * Pair::kRow + column);
    const bool up = (row + column) % 2 == 0;
    if (up ? column == 7 : row == 7) {
      ++(up ? row : column);
    } else if (up ? row == 0 : column == 0) {
      ++(up ? column : row);
    } else {
      row += up ? -1 : 1;
      column += up ? 1 : -1;
    }
  }
  for (int k = 64; k < HuffmanTable::kLong + 64; ++k) {
    zigzag.at[k] = 8 * Pair::kRow;
  }
  return zigzag;
}

constexpr Zigzag kZigzag = make_zigzag();

std::size_t unstuff(const std::uint8_t*& from, const std::uint8_t* end, std::uint8_t* to, std::size_t room) {
  const __m256i ff = _mm256_set1_epi8(-1);
  std::uint8_t* out = to;
  const std::uint8_t* const full = to + room;
  const std::uint8_t* in = from;
  while (in < end && out < full) {
    if (end - in >= 32 && full - out >= 32) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
      const auto found = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, ff)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
      const int plain = found == 0 ? 32 : __builtin_ctz(found);
      in += plain;
      out += plain;
      if (found == 0) {
        continue;
      }
    }
    if (*in == 0xFF) {
      if (end - in < 2 || in[1] != 0) {
        break;  // a marker, or something like one
      }
      *out++ = 0xFF;
      in += 2;
    } else {
      *out++ = *in++;
    }
  }
  from = in;
  return static_cast<std::size_t>(out - to);
}

// Always: a call would put the reader in memory, and each step waits for the last one's bits.
#define VITRIFY_INLINE inline __attribute__((always_inline))

// Makes 56 bits available.
VITRIFY_INLINE void fill(BitReader& reader) {
  std::uint64_t more;
  std::memcpy(&more, reader.next, sizeof more);
  reader.bits |= __builtin_bswap64(more) >> reader.count;
  reader.next += (63 - reader.count) >> 3;
  reader.count |= 56;
}

VITRIFY_INLINE void use(BitReader& reader, int bits) {
  reader.bits <<= bits;
  reader.count -= bits;
}

// What `size` bits at the top say of a coefficient (ITU-T T.81, F.2.2.1: EXTEND).
VITRIFY_INLINE int extended(std::uint64_t bits, int size) {
  // Without a branch: no two signs follow one another as foreseen.
  const auto positive = static_cast<int>(static_cast<std::int64_t>(bits) >> 63);
  const auto value = static_cast<int>(bits >> 1 >> (63 - size));
  return value + (~positive & (static_cast<int>(0xFFFFFFFFU << size) + 1));
}

// A code that has no entry; its length is 0 where it is wrong.
struct Code {
  int symbol;
  int length;
};

__attribute__((noinline)) Code find_code(std::uint64_t bits, const HuffmanTable& table) {
  for (int length = 1; length <= kLongestCode; ++length) {
    const auto code = static_cast<std::int32_t>(bits >> (64 - length));
    if (code <= table.last_code[length]) {
      return {table.symbols[(code + table.offset[length]) & 0xFF], length};
    }
  }
  return {0, 0};
}

// What an entry says of the bits that begin with its code.
VITRIFY_INLINE int value_of(std::uint64_t bits, std::uint64_t entry) {
  return static_cast<int>(bits << (entry >> 16 & 63) >> (entry >> 24 & 63)) + static_cast<int>(entry >> 32);
}

enum class Block { wrong, flat, any };

VITRIFY_INLINE Block read_block(BitReader& reader, JpegComponent& component, std::int16_t* block) {
  fill(reader);
  std::uint64_t entry = component.dc->entries[reader.bits >> (64 - kLook)];
  int dc = component.predicted;
  if ((entry & 0xFF) == 0) {
    const Code code = find_code(reader.bits, *component.dc);  // of 11 bits at most
    if (code.length == 0) {
      return Block::wrong;
    }
    dc += extended(reader.bits << code.length, code.symbol);
    use(reader, code.length + code.symbol);
  } else {
    dc += (entry >> 8 & 0xFF) == HuffmanTable::kEnds ? 0 : value_of(reader.bits, entry);
    use(reader, static_cast<int>(entry & 0xFF));
  }
  if (dc > kLargestDc || dc < -kLargestDc) {
    return Block::wrong;
  }
  component.predicted = dc;
  block[0] = static_cast<std::int16_t>(dc);

  const std::uint64_t* const entries = component.ac->entries;
  std::size_t k = 0;
  while (true) {
    fill(reader);
#pragma GCC unroll 3
    for (int i = 0; i < 56 / HuffmanTable::kMostBits; ++i) {
      entry = entries[reader.bits >> (64 - kLook)];
      k += entry >> 8 & 0xFF;
      block[kZigzag.at[k]] = static_cast<std::int16_t>(value_of(reader.bits, entry));
      use(reader, static_cast<int>(entry & 0xFF));
      if (k >= kLast) {
        break;
      }
    }
    if (k < kLast) {
      continue;
    }
    if (k >= HuffmanTable::kLong) {
      k -= HuffmanTable::kLong;
      fill(reader);
      const Code code = find_code(reader.bits, *component.ac);
      const int size = code.symbol & 15;
      if (code.length == 0 || size > kMostAcBits) {
        return Block::wrong;
      }
      const int run = code.symbol >> 4;
      k += size == 0 && run != 15 ? HuffmanTable::kEnds : static_cast<std::size_t>(run) + 1;
      block[kZigzag.at[k]] = static_cast<std::int16_t>(extended(reader.bits << code.length, size));
      use(reader, code.length + size);
      if (k < kLast) {
        continue;
      }
    }
    if (k == HuffmanTable::kEnds) {
      return Block::flat;
    }
    return k == kLast || k > HuffmanTable::kEnds ? Block::any : Block::wrong;
  }
}

// The two numbers that a product-and-add takes, in every lane.
inline __m256i pair_of(int first, int second) {
  return _mm256_set1_epi32(
      static_cast<int>((static_cast<unsigned>(first) & 0xFFFFU) | static_cast<unsigned>(second) << 16));
}

// One pass of the inverse transform, over lane i of all eight registers: Loeffler, Ligtenberg and Moschytz (ICASSP
// 1989), in fixed point with 13 bits, as jidctint.c of libjpeg does it.
template <int Shift>
inline void transform(__m256i (&v)[8]) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i half = _mm256_set1_epi32(1 << (Shift - 1));
  const __m256i sum = _mm256_add_epi16(v[0], v[4]);
  const __m256i difference = _mm256_sub_epi16(v[0], v[4]);
  const __m256i z3 = _mm256_add_epi16(v[7], v[3]);
  const __m256i z4 = _mm256_add_epi16(v[5], v[1]);
  __m256i out[2][8];
#pragma GCC unroll 2
  for (int part = 0; part < 2; ++part) {
    const auto joined = [part](__m256i a, __m256i b) {
      return part == 0 ? _mm256_unpacklo_epi16(a, b) : _mm256_unpackhi_epi16(a, b);
    };
    const __m256i even = joined(v[2], v[6]);
    const __m256i tmp3 = _mm256_madd_epi16(even, pair_of(10703, 4433));
    const __m256i tmp2 = _mm256_madd_epi16(even, pair_of(4433, -10704));
    const __m256i tmp0 = _mm256_add_epi32(_mm256_srai_epi32(joined(zero, sum), 3), half);
    const __m256i tmp1 = _mm256_add_epi32(_mm256_srai_epi32(joined(zero, difference), 3), half);
    const __m256i evens[4] = {_mm256_add_epi32(tmp0, tmp3), _mm256_add_epi32(tmp1, tmp2), _mm256_sub_epi32(tmp1, tmp2),
                              _mm256_sub_epi32(tmp0, tmp3)};
    const __m256i z = joined(z3, z4);
    const __m256i z3_turned = _mm256_madd_epi16(z, pair_of(-6436, 9633));
    const __m256i z4_turned = _mm256_madd_epi16(z, pair_of(9633, 6437));
    const __m256i a = joined(v[7], v[1]);
    const __m256i b = joined(v[5], v[3]);
    const __m256i odds[4] = {_mm256_add_epi32(_mm256_madd_epi16(a, pair_of(-7373, 4926)), z4_turned),
                             _mm256_add_epi32(_mm256_madd_epi16(b, pair_of(-20995, 4177)), z3_turned),
                             _mm256_add_epi32(_mm256_madd_epi16(b, pair_of(-4176, -20995)), z4_turned),
                             _mm256_add_epi32(_mm256_madd_epi16(a, pair_of(-4927, -7373)), z3_turned)};
    for (int i = 0; i < 4; ++i) {
      out[part][i] = _mm256_srai_epi32(_mm256_add_epi32(evens[i], odds[i]), Shift);
      out[part][7 - i] = _mm256_srai_epi32(_mm256_sub_epi32(evens[i], odds[i]), Shift);
    }
  }
  for (int i = 0; i < 8; ++i) {
    v[i] = _mm256_packs_epi32(out[0][i], out[1][i]);
  }
}

// Of both halves.
inline void transpose(__m256i (&v)[8]) {
  __m256i a[8];
  __m256i b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    b[4 * i] = _mm256_unpacklo_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm256_unpackhi_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm256_unpacklo_epi32(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm256_unpackhi_epi32(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = _mm256_unpacklo_epi64(b[i], b[4 + i]);
    v[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[4 + i]);
  }
}

struct Target {
  const JpegComponent* component;
  std::uint8_t* out;
  Block kind;
};

inline __m256i both(const std::int16_t* low, const std::int16_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(low))),
                                 _mm_load_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

// A block of one colour.
inline void write_flat(const Target& target, int dc) {
  // Both passes of a DC coefficient alone: times 4, then rounded to a 32nd of that.
  const int value = ((dc * target.component->quantiser[0] + 4) >> 3) + 128;
  const __m128i bytes = _mm_set1_epi8(static_cast<char>(value < 0 ? 0 : value > 255 ? 255 : value));
  for (std::size_t y = 0; y < 8; ++y) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(target.out + y * target.component->stride), bytes);
  }
}

// Two blocks to samples; the coefficients become zeros. False where one is too large.
inline bool transform_pair(Pair& pair, const Target (&targets)[2]) {
  if (targets[0].kind == Block::flat && targets[1].kind == Block::flat) {
    bool fits = true;
    for (int i = 0; i < 2; ++i) {
      const int dc = *pair.block(i);
      fits = fits && (dc < 0 ? -dc : dc) <= targets[i].component->largest[0];
      write_flat(targets[i], dc);
      *pair.block(i) = 0;
    }
    return fits;
  }
  const JpegComponent& first = *targets[0].component;
  const JpegComponent& second = *targets[1].component;
  __m256i v[8];
  __m256i large = _mm256_setzero_si256();
  for (int i = 0; i < 8; ++i) {
    auto* const row = reinterpret_cast<__m256i*>(pair.values + Pair::kRow * i);
    const __m256i coefficients = _mm256_load_si256(row);
    _mm256_store_si256(row, _mm256_setzero_si256());
    large = _mm256_or_si256(
        large, _mm256_cmpgt_epi16(_mm256_abs_epi16(coefficients), both(first.largest + 8 * i, second.largest + 8 * i)));
    v[i] = _mm256_mullo_epi16(coefficients, both(first.quantiser + 8 * i, second.quantiser + 8 * i));
  }
  transform<11>(v);
  transpose(v);
  transform<18>(v);
  // Columns of rows to rows of columns, in bytes.
  const __m256i centre = _mm256_set1_epi8(-128);
  __m256i columns[4];
  for (int i = 0; i < 4; ++i) {
    columns[i] = _mm256_xor_si256(_mm256_packs_epi16(v[2 * i], v[2 * i + 1]), centre);
  }
  __m256i quads[2][2];
  for (int i = 0; i < 2; ++i) {
    const __m256i evens = _mm256_unpacklo_epi8(columns[2 * i], columns[2 * i + 1]);
    const __m256i odds = _mm256_unpackhi_epi8(columns[2 * i], columns[2 * i + 1]);
    quads[i][0] = _mm256_unpacklo_epi8(evens, odds);
    quads[i][1] = _mm256_unpackhi_epi8(evens, odds);
  }
  for (int i = 0; i < 2; ++i) {
    const __m256i upper = _mm256_unpacklo_epi32(quads[0][i], quads[1][i]);
    const __m256i lower = _mm256_unpackhi_epi32(quads[0][i], quads[1][i]);
    const __m128i halves[2][2] = {{_mm256_castsi256_si128(upper), _mm256_castsi256_si128(lower)},
                                  {_mm256_extracti128_si256(upper, 1), _mm256_extracti128_si256(lower, 1)}};
    for (int block = 0; block < 2; ++block) {
      const std::size_t stride = targets[block].component->stride;
      std::uint8_t* out = targets[block].out + static_cast<std::size_t>(4 * i) * stride;
      for (std::size_t two = 0; two < 2; ++two) {
        const __m128i rows = halves[block][two];
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 2 * two * stride), rows);
        _mm_storeh_pd(reinterpret_cast<double*>(out + (2 * two + 1) * stride), _mm_castsi128_pd(rows));
      }
    }
  }
  return _mm256_testz_si256(large, large) != 0;
}

bool decode(JpegScan& scan, int begin, int end) {
  // An MCU's blocks in one list: nested loops of one or two turns are foreseen badly among codes.
  struct Place {
    JpegComponent* component;
    std::size_t offset;
    std::size_t step;
  };
  Place places[10];
  int blocks = 0;
  for (int c = 0; c < scan.count; ++c) {
    JpegComponent& component = scan.components[c];
    for (int y = 0; y < component.vertical; ++y) {
      for (int x = 0; x < component.horizontal; ++x) {
        places[blocks++] = {&component,
                            8 * (static_cast<std::size_t>(y) * component.stride + static_cast<std::size_t>(x)),
                            8 * static_cast<std::size_t>(component.horizontal)};
      }
    }
  }
  Pair pair{};
  Target targets[2];
  int waiting = 0;
  BitReader reader = scan.reader;
  for (int mcu = 0; mcu < scan.mcus; ++mcu) {
    if (reader.next > reader.limit) {
      scan.reader = reader;
      if (!scan.more(scan)) {
        return false;
      }
      reader = scan.reader;
    }
    const bool wanted = mcu >= begin && mcu < end;
    for (int i = 0; i < blocks; ++i) {
      const Place& place = places[i];
      const Block kind = read_block(reader, *place.component, pair.block(waiting));
      if (kind == Block::wrong) {
        return false;
      }
      if (!wanted) {
        pair.clear(waiting);
        continue;
      }
      targets[waiting] = {place.component,
                          place.component->out + place.offset + static_cast<std::size_t>(mcu) * place.step, kind};
      if (++waiting == 2) {
        waiting = 0;
        if (!transform_pair(pair, targets)) {
          return false;
        }
      }
    }
  }
  scan.reader = reader;
  if (waiting == 1) {
    // With a second one that writes what the first one writes.
    for (int row = 0; row < 8; ++row) {
      std::memcpy(pair.block(1) + Pair::kRow * row, pair.block(0) + Pair::kRow * row, 8 * sizeof(std::int16_t));
    }
    targets[1] = targets[0];
    return transform_pair(pair, targets);
  }
  return true;
}

// Chroma of 32 pixels, less 128: of the even ones and of the odd ones, in 16 bits.
struct Chroma {
  __m256i even;
  __m256i odd;
};

struct Pixels {
  __m256i channels[3];
};

// 16 pixels' channels in 16 bits, not yet clipped; `luma` has them too.
inline Pixels colours(__m256i luma, __m256i blue, __m256i red) {
  const __m256i one = _mm256_set1_epi16(1);
  // x * 1.402 is x + x * 0.402; and so on, so that the factors fit in 16 bits. The product of twice x is rounded when
  // it is halved.
  const auto scaled = [&](__m256i x, short factor) {
    const __m256i doubled = _mm256_mulhi_epi16(_mm256_add_epi16(x, x), _mm256_set1_epi16(factor));
    return _mm256_srai_epi16(_mm256_add_epi16(doubled, one), 1);
  };
  const __m256i factors = pair_of(-22554, 18734);
  const __m256i half = _mm256_set1_epi32(1 << 15);
  const auto green = [&](__m256i pairs) {
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(pairs, factors), half), 16);
  };
  Pixels pixels;
  pixels.channels[0] = _mm256_add_epi16(_mm256_add_epi16(luma, red), scaled(red, 26345));
  pixels.channels[1] = _mm256_add_epi16(
      _mm256_sub_epi16(luma, red),
      _mm256_packs_epi32(green(_mm256_unpacklo_epi16(blue, red)), green(_mm256_unpackhi_epi16(blue, red))));
  pixels.channels[2] = _mm256_add_epi16(_mm256_add_epi16(luma, _mm256_add_epi16(blue, blue)), scaled(blue, -14942));
  return pixels;
}

inline __m256i words_of(const std::uint8_t* bytes) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

void convert(const JpegRow& row, std::uint8_t* const planes[3]) {
  const bool spread = row.horizontal == 2;
  const bool blended = row.vertical == 2;
  for (int c = 0; spread && c < 2; ++c) {
    std::int16_t* sums = row.sums[c] + kSumsMargin;
    for (std::size_t i = 0; i < row.samples; i += 16) {
      __m256i sum = words_of(row.chroma[c][0] + i);
      if (blended) {
        sum = _mm256_add_epi16(_mm256_add_epi16(sum, _mm256_add_epi16(sum, sum)), words_of(row.chroma[c][1] + i));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + i), sum);
    }
    sums[-1] = sums[0];
    sums[row.samples] = sums[row.samples - 1];
  }
  const __m256i centre = _mm256_set1_epi16(128);
  const __m256i low = _mm256_set1_epi16(0xFF);
  const __m256i even_half = _mm256_set1_epi16(blended ? 8 : 1);
  const __m256i odd_half = _mm256_set1_epi16(blended ? 7 : 2);
  const __m128i shift = _mm_cvtsi32_si128(blended ? 4 : 2);
  for (std::size_t x = 0; x < row.pixels; x += 32) {
    Chroma chroma[2];
    for (int c = 0; c < 2; ++c) {
      if (spread) {
        const std::int16_t* sums = row.sums[c] + kSumsMargin + x / 2;
        const __m256i sum = load(sums);
        const __m256i thrice = _mm256_add_epi16(sum, _mm256_add_epi16(sum, sum));
        chroma[c].even = _mm256_srl_epi16(_mm256_add_epi16(_mm256_add_epi16(thrice, load(sums - 1)), even_half), shift);
        chroma[c].odd = _mm256_srl_epi16(_mm256_add_epi16(_mm256_add_epi16(thrice, load(sums + 1)), odd_half), shift);
      } else {
        const __m256i bytes = load(row.chroma[c][0] + x);
        chroma[c].even = _mm256_and_si256(bytes, low);
        chroma[c].odd = _mm256_srli_epi16(bytes, 8);
      }
      chroma[c].even = _mm256_sub_epi16(chroma[c].even, centre);
      chroma[c].odd = _mm256_sub_epi16(chroma[c].odd, centre);
    }
    const __m256i luma = load(row.luma + x);
    const Pixels even = colours(_mm256_and_si256(luma, low), chroma[0].even, chroma[1].even);
    const Pixels odd = colours(_mm256_srli_epi16(luma, 8), chroma[0].odd, chroma[1].odd);
    // The even pixels, then the odd ones, in each half.
    const __m256i order = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,  //
                                           0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    for (int channel = 0; channel < 3; ++channel) {
      const __m256i bytes = _mm256_packus_epi16(even.channels[channel], odd.channels[channel]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(planes[channel] + x), _mm256_shuffle_epi8(bytes, order));
    }
  }
}

}  // namespace

const JpegKernels avx2_jpeg_kernels = {unstuff, decode, convert};

}  // namespace vitrify::pixels
