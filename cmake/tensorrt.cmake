# TensorRT and CUDA, from TensorRT_ROOT or from where the system has them.
#   -DTensorRT_ROOT=/opt/TensorRT-10.16    with include/NvInfer.h and lib/libnvinfer.so (or libtensorrt_rtx.so)
option(VITRIFY_TENSORRT "Run engines on NVIDIA GPUs with TensorRT" ON)
set(TensorRT_ROOT "" CACHE PATH "Where TensorRT or TensorRT-RTX was unpacked")
if(VITRIFY_TENSORRT)
  find_package(CUDAToolkit QUIET)
  find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TensorRT_ROOT} PATH_SUFFIXES include)
  find_library(TensorRT_LIBRARY NAMES nvinfer libnvinfer.so.11 libnvinfer.so.10 libnvinfer.so.8 tensorrt_rtx
    libtensorrt_rtx.so.1 HINTS ${TensorRT_ROOT} PATH_SUFFIXES lib lib64 lib/x86_64-linux-gnu)
  if(CUDAToolkit_FOUND AND TensorRT_INCLUDE_DIR AND TensorRT_LIBRARY)
    set(TensorRT_FOUND TRUE)
    string(FIND "${TensorRT_LIBRARY}" tensorrt_rtx at)
    if(at GREATER -1)
      set(TensorRT_RTX TRUE)
    endif()
    add_library(TensorRT::nvinfer UNKNOWN IMPORTED)
    # SYSTEM: its headers are not ours to mend.
    set_target_properties(TensorRT::nvinfer PROPERTIES IMPORTED_LOCATION ${TensorRT_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${TensorRT_INCLUDE_DIR} INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${TensorRT_INCLUDE_DIR})
    message(STATUS "TensorRT: ${TensorRT_LIBRARY}, CUDA ${CUDAToolkit_VERSION}")
  else()
    message(STATUS "TensorRT was not found: this build runs no engines. hint: -DTensorRT_ROOT=FOLDER, and the CUDA toolkit")
  endif()
endif()
