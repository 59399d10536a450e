# An install tree that other projects find, with CMake or with pkg-config.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# OpenVINO is found where it was linked, libvitrify beside the program. CMake's own way to that,
# INSTALL_RPATH_USE_LINK_PATH, passes over folders below the source tree, and .venv is one.
file(RELATIVE_PATH to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
set(library_path "$ORIGIN")
if(OpenVINO_FOUND)
  list(APPEND library_path "$<TARGET_FILE_DIR:openvino::runtime>")
endif()
set_target_properties(vitrify PROPERTIES INSTALL_RPATH "${library_path}")
set_target_properties(vitrify-classify PROPERTIES INSTALL_RPATH "$ORIGIN/${to_lib}")

install(TARGETS vitrify EXPORT vitrifyTargets)
install(TARGETS vitrify-classify)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/vitrify DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/vitrify)
install(EXPORT vitrifyTargets NAMESPACE vitrify:: FILE vitrifyConfig.cmake DESTINATION ${package})
write_basic_package_version_file(vitrifyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/vitrifyConfigVersion.cmake DESTINATION ${package})

file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(${PROJECT_SOURCE_DIR}/cmake/vitrify.pc.in vitrify.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/vitrify.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
