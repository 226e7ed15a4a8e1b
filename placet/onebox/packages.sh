# Debian packages, sourced by up.sh and test.sh: the one place that lists them.

# what a node and the control plane need at run time
RUN_PACKAGES=(
  etcd-server                    # the store
  libvirt-daemon-system          # libvirtd, virtlogd, the libvirt-qemu user
  libvirt-daemon-driver-qemu
  dnsmasq-base                   # DHCP of libvirt's NAT network
  iptables                       # libvirt's NAT rules
  nftables                       # what guests may send
  iproute2
  qemu-system-x86
  qemu-utils                     # qemu-img: overlays
  openssh-client                 # ssh-keygen: the key that new VMs get
)
# what pip builds libvirt-python with
BUILD_PACKAGES=(libvirt-dev pkg-config gcc libc6-dev)
# what python -m placet.guestimage runs; the rest it unpacks by itself (placet/guestimage/recipe.py)
IMAGE_PACKAGES=(e2fsprogs)
# what test.sh needs besides: a Docker engine; its base image and the Debian guest; etcd's snapshots; other clocks
TEST_PACKAGES=(docker.io mmdebstrap etcd-client faketime)

# Prints the packages of a Python that Placement's release runs on: Debian's own, or 3.11 beside an older one.
python_packages() {
  if /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null; then
    echo python3.11-venv python3.11-dev
  else
    echo python3-venv python3-dev
  fi
}

# Prints those of its arguments that are not installed, each on a line.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# Installs its arguments, which go to apt-get, without what they merely recommend.
install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q -o DPkg::Lock::Timeout=300 &&
    apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}
