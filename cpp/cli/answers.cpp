#include "answers.hpp"

#include <cstdio>

#include <nlohmann/json.hpp>

namespace vitrify::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string reason(const std::string& name, const ImageError& error) {
  const std::string prefix = name + ": ";
  std::string what = error.problem();
  if (what.compare(0, prefix.size(), prefix) == 0) {
    what.erase(0, prefix.size());
  }
  return error.got().empty() ? what : what + " (" + error.got() + ")";
}

Json record_of(const std::string& name, const Prediction& prediction) {
  Json top = Json::array();
  for (const LabelScore& score : prediction.top) {
    top.push_back({{"label", score.label}, {"index", score.index}, {"probability", score.probability}});
  }
  const LabelScore& best = prediction.top.front();
  return {{"image", name}, {"label", best.label}, {"probability", best.probability}, {"top", std::move(top)}};
}

}  // namespace

AnswerWriter::AnswerWriter(OutputFormat format, std::ostream& out)
    : format_(format), out_(&out), table_({"image", "label", "probability", "others"}) {}

void AnswerWriter::write(const std::string& name, const Answer& answer) {
  const auto* prediction = std::get_if<Prediction>(&answer);
  if (format_ == OutputFormat::jsonl) {
    const Json record = prediction != nullptr
                            ? record_of(name, *prediction)
                            : Json{{"image", name}, {"error", reason(name, std::get<ImageError>(answer))}};
    // A file name need not be UTF-8, JSON has to.
    *out_ << record.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  } else if (prediction == nullptr) {
    table_.add({name, "unreadable", "", reason(name, std::get<ImageError>(answer))});
  } else {
    std::string others;
    for (std::size_t i = 1; i < prediction->top.size(); ++i) {
      others += (i == 1 ? "" : "  ") + prediction->top[i].label + " " + fixed(prediction->top[i].probability, 3);
    }
    const LabelScore& best = prediction->top.front();
    table_.add({name, best.label, fixed(best.probability, 4), others});
  }
}

void AnswerWriter::finish() {
  if (format_ == OutputFormat::table) {
    table_.print(*out_);
  }
  out_->flush();
}

}  // namespace vitrify::cli
