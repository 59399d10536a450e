# Our own engine on NVIDIA GPUs: nvcc compiles its kernels, cuBLASLt's header describes its products. The library itself
# is opened at run time.
#   -DCUBLAS_ROOT=.venv/lib/python3.12/site-packages/nvidia/cu13    the wheel nvidia-cublas, say
if(VITRIFY_PYTHON)  # where it is asked for: its kernels compile for minutes
  option(VITRIFY_CUDA_ENGINE "Build vitrify._cuda, for the runtime cuda" OFF)
  set(VITRIFY_CUDART CUDA::cudart_static)  # the extension is to load where there is no CUDA at all
else()
  option(VITRIFY_CUDA_ENGINE "Run networks on NVIDIA GPUs without TensorRT" ON)
  set(VITRIFY_CUDART CUDA::cudart)
endif()
option(VITRIFY_REQUIRE_CUDA_ENGINE "A missing nvcc or cublasLt.h is an error" OFF)
# Hopper's own instructions are in 90a alone; newer GPUs compile 90's PTX.
set(VITRIFY_CUDA_ENGINE_ARCHITECTURES 80-real 90a-real 90-virtual CACHE STRING "What the engine's kernels compile for")
set(CUBLAS_ROOT "" CACHE PATH "Where cuBLASLt's include/ is, if not in the CUDA toolkit")
if(VITRIFY_CUDA_ENGINE)
  find_package(CUDAToolkit QUIET)
  file(GLOB wheels ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13)
  find_path(CUBLASLT_INCLUDE_DIR cublasLt.h HINTS ${CUBLAS_ROOT}/include ${CUDAToolkit_INCLUDE_DIRS}
    PATHS ${wheels} PATH_SUFFIXES include)
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND CUBLASLT_INCLUDE_DIR)
    set(VITRIFY_CUDA_ENGINE_FOUND TRUE)
    if(NOT CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 87-real 89-real 90)  # of the preprocessing: tensorrt.cmake
    endif()
    enable_language(CUDA)
    message(STATUS "cuda engine: CUDA ${CUDAToolkit_VERSION}, ${CUBLASLT_INCLUDE_DIR}/cublasLt.h")
  else()
    set(severity STATUS)
    if(VITRIFY_REQUIRE_CUDA_ENGINE OR VITRIFY_PYTHON)
      set(severity FATAL_ERROR)
    endif()
    message(${severity} "nvcc or cublasLt.h was not found: this build has no cuda engine. "
      "hint: the CUDA toolkit 12.4 or newer, and CUBLAS_ROOT where cuBLAS is a wheel")
  endif()
endif()
