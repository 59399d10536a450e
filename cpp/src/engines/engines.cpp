#include "engines.hpp"

namespace vitrify {
namespace {

const std::vector<engines::Row>& rows() {
  static const std::vector<engines::Row> all{
#ifdef VITRIFY_OPENVINO
      {"openvino", engines::open_openvino, engines::openvino_has_native},
#endif
  };
  return all;
}

const engines::Row* find(const std::string& name) {
  for (const engines::Row& row : rows()) {
    if (name == row.name || name == "auto") {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> available_engines() {
  std::vector<std::string> names;
  for (const engines::Row& row : rows()) {
    names.emplace_back(row.name);
  }
  return names;
}

bool has_native(const std::string& engine, Precision precision) {
  const engines::Row* row = find(engine);
  return row != nullptr && row->has_native(precision);
}

std::unique_ptr<Engine> open_engine(const std::string& path, const ModelSpec& spec, const EngineOptions& options,
                                    const std::string& name) {
  if (options.threads < 0 || options.streams < 1) {
    throw OptionError("threads or streams cannot be used",
                      std::to_string(options.threads) + " threads, " + std::to_string(options.streams) + " streams",
                      "threads of 0 or more, streams of 1 or more");
  }
  if (const engines::Row* row = find(name)) {
    return row->open(path, spec, options);
  }
  std::string expected = "auto";
  for (const engines::Row& row : rows()) {
    expected += std::string(", ") + row.name;
  }
  if (rows().empty()) {
    throw OptionError("this build has no engine", {}, {}, "build vitrify where CMake finds OpenVINO");
  }
  throw OptionError("no engine is called '" + name + "'", {}, expected);
}

}  // namespace vitrify
