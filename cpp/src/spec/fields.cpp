#include "fields.hpp"

#include <algorithm>
#include <cmath>

#include "text.hpp"
#include "vitrify/error.hpp"

namespace vitrify::spec {
namespace {

std::string shown(const Json& data) {
  constexpr std::size_t longest = 77;
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= longest ? text : text.substr(0, longest) + "...";
}

}  // namespace

void Value::refuse(const std::string& expected) const {
  throw SpecError("the model spec has a wrong value at " + path_, shown(*data_), expected);
}

std::string Value::text() const { return data_->is_string() ? data_->get<std::string>() : (refuse("a str"), ""); }

bool Value::flag() const { return data_->is_boolean() ? data_->get<bool>() : (refuse("a bool"), false); }

double Value::number() const {
  const double value = data_->is_number() ? data_->get<double>() : std::nan("");
  return std::isfinite(value) ? value : (refuse("a finite float"), value);
}

std::int64_t Value::whole(std::int64_t least, std::int64_t most) const {
  const bool fits =
      data_->is_number_integer() && (!data_->is_number_unsigned() || data_->get<std::uint64_t>() <= INT64_MAX);
  const auto value = fits ? data_->get<std::int64_t>() : 0;
  if (!fits || value < least || value > most) {
    refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

const Json& Value::items_of(std::size_t count) const {
  if (!data_->is_array() || (count != kAnyCount && data_->size() != count)) {
    refuse(count == kAnyCount ? "a list" : "a list of " + std::to_string(count));
  }
  return *data_;
}

void Value::each(const std::function<void(const std::string&, const Value&)>& read) const {
  if (!data_->is_object()) {
    refuse("an object");
  }
  for (const auto& [name, item] : data_->items()) {
    read(name, Value(item, path_ + "." + name));
  }
}

Fields::Fields(const Value& value, std::initializer_list<std::string_view> required,
               std::initializer_list<std::string_view> optional)
    : data_(&value.json()), path_(value.path()) {
  if (!data_->is_object()) {
    value.refuse("an object");
  }
  std::vector<std::string> names(required.begin(), required.end());
  std::vector<std::string> wrong;
  for (const std::string_view name : required) {
    if (!data_->contains(name)) {
      wrong.push_back("no " + std::string(name));
    }
  }
  names.insert(names.end(), optional.begin(), optional.end());
  for (const auto& [name, item] : data_->items()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      wrong.push_back("unknown " + name);
    }
  }
  if (!wrong.empty()) {
    throw SpecError("the model spec does not have the right fields at " + path_, joined(wrong), joined(names),
                    "export the artifact again with this vitrify");
  }
}

}  // namespace vitrify::spec
