"""The lab's images, from lock files to bootable bytes.

images.toml   what goes into each image, by package name
locks/        the exact packages (`python -m images lock`)
archive, resolve, lock, fetch, choice    where packages come from, and which lock a build uses
base, roles, ansible/, initramfs, make   package tree, roles, packing
build         `ensure`: what everybody calls;  manifest: what an image is and what it was made from
reporting, variant, kernels/   kernels that report, and the dut's image with one of them
source, headers                the kernel's source package; the modules on other kernels' headers
verify        two builds from nothing, compared;  debs, checkpatch: by-products
"""
