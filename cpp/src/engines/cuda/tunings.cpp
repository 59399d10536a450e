#include "tunings.hpp"

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <limits>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "../sha256.hpp"

namespace vitrify::engines {
namespace {

namespace fs = std::filesystem;

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostBytes = std::size_t{1} << 20;  // far more than any has
constexpr std::size_t kMostProducts = 1024;
constexpr std::size_t kNumbers = std::tuple_size_v<decltype(ProductShape{}.key())>;

std::string digest_of(const std::string& text) {
  Sha256 digest;
  digest.update(text.data(), text.size());
  return digest.finish();
}

Json numbers_of(const ProductShape& shape) {
  Json numbers = Json::array();
  std::apply([&](const auto&... each) { (numbers.push_back(static_cast<std::int64_t>(each)), ...); }, shape.key());
  return numbers;
}

// A whole number that the type holds; of an enumeration's values, those up to `last`.
template <typename Value>
bool take(const Json& number, Value& value) {
  if (!number.is_number_integer()) {
    return false;
  }
  if constexpr (std::is_enum_v<Value>) {
    const auto last =
        std::is_same_v<Value, Number> ? static_cast<int>(Number::e4m3) : static_cast<int>(Epilogue::gelu_bias);
    const auto given = number.get<std::int64_t>();
    value = static_cast<Value>(given);
    return given >= 0 && given <= last;
  } else if constexpr (std::is_same_v<Value, bool>) {
    const auto given = number.get<std::int64_t>();
    value = given != 0;
    return given == 0 || given == 1;
  } else {
    const auto given = number.get<std::int64_t>();
    value = static_cast<Value>(given);
    return given >= 0 && given <= std::numeric_limits<Value>::max();
  }
}

std::optional<ProductShape> shape_of(const Json& numbers) {
  if (!numbers.is_array() || numbers.size() != kNumbers) {
    return std::nullopt;
  }
  ProductShape shape;
  std::size_t at = 0;
  const bool fits =
      std::apply([&](auto&... each) { return (take(numbers[at++], each) && ...); }, ProductShape::members(shape));
  return fits ? std::optional(shape) : std::nullopt;
}

std::string hex_of(const Algorithm& algorithm) {
  std::string text;
  for (const std::uint8_t byte : algorithm) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::optional<Algorithm> algorithm_of(const Json& value) {
  Algorithm algorithm{};
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr || text->size() != 2 * algorithm.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < text->size(); ++i) {
    const std::size_t digit = std::string_view("0123456789abcdef").find((*text)[i]);
    if (digit == std::string_view::npos) {
      return std::nullopt;
    }
    algorithm[i / 2] = static_cast<std::uint8_t>(std::size_t{algorithm[i / 2]} << 4 | digit);
  }
  return algorithm;
}

std::optional<Tuning> tuning_of(const Json& data, const std::string& key) {
  if (!data.is_object() || data.value("key", Json()) != key) {
    return std::nullopt;
  }
  const Json body = data.value("tuning", Json());
  if (!body.is_object() || data.value("sha256", Json()) != digest_of(key + body.dump())) {
    return std::nullopt;  // a bit that is wrong in an algorithm would not show
  }
  Tuning tuning;
  const Json products = body.value("products", Json());
  if (!take(body.value("piece", Json()), tuning.piece) || tuning.piece < 1 || !products.is_array() ||
      products.size() > kMostProducts) {
    return std::nullopt;
  }
  for (const Json& product : products) {
    if (!product.is_object()) {
      return std::nullopt;
    }
    const auto shape = shape_of(product.value("shape", Json()));
    const auto algorithm = algorithm_of(product.value("algorithm", Json()));
    if (!shape || !algorithm) {
      return std::nullopt;
    }
    tuning.products.emplace_back(*shape, *algorithm);
  }
  return tuning;
}

}  // namespace

fs::path Tunings::file(const std::string& key) const { return folder_ / (digest_of(key) + ".json"); }

std::optional<Tuning> Tunings::read(const std::string& key) const noexcept {
  try {
    std::ifstream stream;
    if (!folder_.empty()) {
      stream.open(file(key), std::ios::binary);
    }
    if (!stream.is_open()) {
      return std::nullopt;
    }
    std::string text(kMostBytes, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    return tuning_of(Json::parse(text, nullptr, false), key);
  } catch (const std::exception&) {
    return std::nullopt;  // then it is tuned anew
  }
}

void Tunings::keep(const std::string& key, const Tuning& tuning) const noexcept {
  try {
    if (folder_.empty()) {
      return;
    }
    Json products = Json::array();
    for (const auto& [shape, algorithm] : tuning.products) {
      products.push_back({{"shape", numbers_of(shape)}, {"algorithm", hex_of(algorithm)}});
    }
    const Json body{{"piece", tuning.piece}, {"products", products}};
    const Json data{{"key", key}, {"tuning", body}, {"sha256", digest_of(key + body.dump())}};
    fs::create_directories(folder_);
    static std::atomic<unsigned> number{0};
    const fs::path target = file(key);
    fs::path part = target;
    part += '.' + std::to_string(getpid()) + '-' + std::to_string(number++);
    std::ofstream stream(part, std::ios::binary);
    stream << data.dump(1) << '\n';
    stream.close();
    std::error_code failed;
    if (stream) {
      fs::rename(part, target, failed);
    }
    fs::remove(part, failed);  // where it is still there
  } catch (const std::exception&) {
    return;  // then the next opening tunes again
  }
}

}  // namespace vitrify::engines
