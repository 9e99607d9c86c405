"""What pyproject.toml cannot say: the native part is optional and made of every C file there is.

Without a compiler, or on a Python that the C code does not know, the package installs without
`contpoutine._native` and works on replay; `contpoutine.capabilities()` tells. Two switches:

    CONTPOUTINE_WERROR=1      warnings are errors, and a failed compile fails the build
    CONTPOUTINE_SANITIZE=1    address and undefined-behaviour sanitizers, with debug symbols
"""

import os
import sysconfig
from glob import glob

from setuptools import Extension, setup


def switched_on(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def compile_flags() -> list[str]:
    if os.name == "nt":
        return ["/std:c11", "/O2"]
    # CPython's own headers do not compile cleanly with -Wextra: they count as system headers.
    flags = ["-std=c11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]
    flags += ["-isystem", sysconfig.get_path("include")]
    if switched_on("CONTPOUTINE_WERROR"):
        flags.append("-Werror")
    if switched_on("CONTPOUTINE_SANITIZE"):
        flags += ["-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    return flags


def link_flags() -> list[str]:
    return ["-fsanitize=address,undefined"] if switched_on("CONTPOUTINE_SANITIZE") else []


def native() -> list[Extension]:
    sources = sorted(glob("contpoutine/native/*.c"))
    if not sources:
        return []
    return [
        Extension(
            "contpoutine._native",
            sources,
            depends=sorted(glob("contpoutine/native/*.h")),
            include_dirs=["contpoutine/native"],
            extra_compile_args=compile_flags(),
            extra_link_args=link_flags(),
            optional=not switched_on("CONTPOUTINE_WERROR"),
        )
    ]


setup(ext_modules=native())
