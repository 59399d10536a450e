# What makes a memory error end the program instead of serving whoever caused it: guarded stacks, checked copies and
# indices, tables that are read-only once the libraries are loaded, programs at addresses that nobody knows.
# tests/cpp/test_hardening.py reads it back from the binaries.
add_library(vitrify_hardening INTERFACE)
include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)  # links programs so; CMAKE_POSITION_INDEPENDENT_CODE compiles them so
if(CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang)$" AND CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF")
  target_compile_options(vitrify_hardening INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fstack-protector-strong>)
  target_compile_definitions(vitrify_hardening INTERFACE $<$<COMPILE_LANGUAGE:CXX>:_GLIBCXX_ASSERTIONS>)
  target_link_options(vitrify_hardening INTERFACE LINKER:-z,relro,-z,now,-z,noexecstack)
  # Not below sanitizers, which put their own checks in the same places; nor without optimisation, where it only warns.
  if(NOT VITRIFY_SANITIZE)
    set(fortify 3)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
      set(fortify 2)
    endif()
    # Some distributions' compilers define it themselves.
    target_compile_options(vitrify_hardening INTERFACE
      "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release,RelWithDebInfo,MinSizeRel>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=${fortify}>")
  endif()
endif()
