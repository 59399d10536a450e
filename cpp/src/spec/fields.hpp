// JSON read strictly: an unknown, missing or mistyped field is a SpecError that names its path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace vitrify::spec {

using Json = nlohmann::json;

// A value and where in the spec it stands.
class Value {
 public:
  Value(const Json& data, std::string path) : data_(&data), path_(std::move(path)) {}

  [[nodiscard]] std::string text() const;
  [[nodiscard]] double number() const;
  [[nodiscard]] bool flag() const;
  [[nodiscard]] bool is_null() const { return data_->is_null(); }
  // A whole number in [least, most].
  [[nodiscard]] std::int64_t whole(std::int64_t least, std::int64_t most) const;

  // A list, each item read by `read`; of exactly `count` items unless that is kAnyCount.
  static constexpr std::size_t kAnyCount = static_cast<std::size_t>(-1);
  template <typename Read>
  [[nodiscard]] auto list(Read read, std::size_t count = kAnyCount) const {
    std::vector<decltype(read(std::declval<Value>()))> items;
    for (const Json& item : items_of(count)) {
      items.push_back(read(Value(item, path_ + "[" + std::to_string(items.size()) + "]")));
    }
    return items;
  }

  // Calls `read` with the name and the value of every entry of an object whose names are free.
  void each(const std::function<void(const std::string&, const Value&)>& read) const;

  template <typename Choice>
  [[nodiscard]] Choice choice(std::initializer_list<std::pair<const char*, Choice>> choices) const {
    std::string expected;
    for (const auto& [name, value] : choices) {
      if (data_->is_string() && data_->get_ref<const std::string&>() == name) {
        return value;
      }
      expected += (expected.empty() ? "'" : " or '") + std::string(name) + "'";
    }
    refuse(expected);
  }

  [[noreturn]] void refuse(const std::string& expected) const;
  [[nodiscard]] const Json& json() const { return *data_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  [[nodiscard]] const Json& items_of(std::size_t count) const;

  const Json* data_;
  std::string path_;
};

// An object with these fields and no others.
class Fields {
 public:
  Fields(const Value& value, std::initializer_list<std::string_view> required,
         std::initializer_list<std::string_view> optional = {});

  [[nodiscard]] bool has(const char* name) const { return data_->contains(name); }
  [[nodiscard]] Value operator[](const char* name) const { return {data_->at(name), path_ + "." + name}; }
  // The text of an optional field.
  [[nodiscard]] std::string text_or(const char* name, const char* otherwise = "") const {
    return has(name) ? (*this)[name].text() : otherwise;
  }

 private:
  const Json* data_;
  std::string path_;
};

}  // namespace vitrify::spec
