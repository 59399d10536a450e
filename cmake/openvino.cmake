# OpenVINO, from an installation that CMake knows, else from the pip wheel of .venv or of the python3 on the path.
option(VITRIFY_OPENVINO "Run networks on the CPU with OpenVINO" ON)
if(VITRIFY_OPENVINO)
  find_package(OpenVINO QUIET COMPONENTS Runtime)
  foreach(python ${PROJECT_SOURCE_DIR}/.venv/bin/python python3)
    if(NOT OpenVINO_FOUND)
      execute_process(
        COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('openvino').submodule_search_locations[0])"
        OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE missing)
      if(missing EQUAL 0)
        find_package(OpenVINO QUIET COMPONENTS Runtime PATHS ${wheel}/cmake NO_DEFAULT_PATH)
      endif()
    endif()
  endforeach()
  if(OpenVINO_FOUND)
    message(STATUS "OpenVINO ${OpenVINO_VERSION}: ${OpenVINO_DIR}")
  else()
    message(FATAL_ERROR "OpenVINO was not found. hint: pip install openvino, or set OpenVINO_DIR; "
      "-DVITRIFY_OPENVINO=OFF builds without an engine for the CPU")
  endif()
endif()
