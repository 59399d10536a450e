# nvJPEG, from NVJPEG_ROOT or from the CUDA toolkit.
#   -DNVJPEG_ROOT=.venv/lib/python3.12/site-packages/nvidia/cu13    the wheel nvidia-nvjpeg, say
option(VITRIFY_NVJPEG "Decode JPEGs on NVIDIA GPUs where it is asked for" ON)
set(NVJPEG_ROOT "" CACHE PATH "Where nvJPEG's include/ and lib/ are, if not in the CUDA toolkit")
if(VITRIFY_NVJPEG)
  find_path(NVJPEG_INCLUDE_DIR nvjpeg.h HINTS ${NVJPEG_ROOT}/include ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NVJPEG_LIBRARY NAMES nvjpeg libnvjpeg.so.13 libnvjpeg.so.12 libnvjpeg.so.11
    HINTS ${NVJPEG_ROOT}/lib ${CUDAToolkit_LIBRARY_DIR})
  if(NVJPEG_INCLUDE_DIR AND NVJPEG_LIBRARY)
    set(NVJPEG_FOUND TRUE)
    add_library(NVJPEG::nvjpeg SHARED IMPORTED)
    set_target_properties(NVJPEG::nvjpeg PROPERTIES IMPORTED_LOCATION ${NVJPEG_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${NVJPEG_INCLUDE_DIR} INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${NVJPEG_INCLUDE_DIR})
    message(STATUS "nvJPEG: ${NVJPEG_LIBRARY}")
  else()
    message(STATUS "nvJPEG was not found: this build decodes JPEGs on the CPU alone. "
      "hint: it is part of the CUDA toolkit (libnvjpeg-dev-13-0), or set NVJPEG_ROOT")
  endif()
endif()
