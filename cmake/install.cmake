# An install tree that other projects find, with CMake or with pkg-config.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Libraries are found where they were linked, libvitrify beside the program or in the folder of libraries. CMake's own way
# to the first, INSTALL_RPATH_USE_LINK_PATH, passes over folders below the source tree, and .venv is one.
file(RELATIVE_PATH to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
set(library_path "$ORIGIN")
get_target_property(linked vitrify LINK_LIBRARIES)
foreach(needed openvino::runtime CUDA::cudart TensorRT::nvinfer NVJPEG::nvjpeg)
  if(needed IN_LIST linked)
    list(APPEND library_path "$<TARGET_FILE_DIR:${needed}>")
  endif()
endforeach()
set_target_properties(vitrify PROPERTIES INSTALL_RPATH "${library_path}"
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR})
set_target_properties(vitrify-classify PROPERTIES INSTALL_RPATH "$ORIGIN/${to_lib}")
# The build tree is laid out like the install tree and has its paths. Where the two differ, CMake ends the former with
# empty entries, to be overwritten; the loader takes one for the current directory.
set_target_properties(vitrify vitrify-classify PROPERTIES BUILD_WITH_INSTALL_RPATH ON)

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
