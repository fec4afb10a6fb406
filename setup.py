"""The one part of the build that pyproject.toml cannot say: the compiled selective scan.

It is optional: without a C++ compiler edged installs all the same and takes numba's form of the scan.
"""

from setuptools import Extension, setup

SCAN = "pipelines/selective_scan"

setup(
    ext_modules=[
        Extension(
            "pipelines.selective_scan._kernel",
            sources=[f"{SCAN}/kernel.cpp"],
            depends=[f"{SCAN}/kernel_simd.h"],
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ]
)
