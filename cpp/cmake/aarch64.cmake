# Cross compiles for AArch64 and runs the tests in QEMU's user mode, with Debian's packages
# g++-aarch64-linux-gnu and qemu-user-static. The Cortex-A57 refuses what ARMv8.0 has not.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -cpu cortex-a57 -L /usr/aarch64-linux-gnu)
