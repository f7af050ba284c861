# make help tells the targets.

PREFIX  = /usr/local
DESTDIR =
ONCE    =
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BINARY := $(TARGET)/release/pillarbox
TOOLS  := tests/tools
INSTALL = install -D -m
# What starts services here, and where its files go.
INIT     := $(if $(wildcard /sbin/openrc-run /usr/sbin/openrc-run),openrc,$(if $(wildcard /sbin/procd),openwrt,systemd))
UNITS    = /etc/systemd/system
TMPFILES = /etc/tmpfiles.d
ZSH      = $(PREFIX)/share/zsh/site-functions
MIRROR   = http://deb.debian.org/debian
# For make cross.
ARCH = arm64
LIBC = gnu

# Where rustup puts cargo, and Debian its servers, if the shell does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# What the build needs, and what the tests talk to, as PROGRAM=PACKAGE.
BUILD_NEEDS = cc=gcc /usr/include/stdlib.h=libc6-dev pkg-config=pkg-config /usr/include/openssl/ssl.h=libssl-dev
DEB_NEEDS    = dpkg-shlibdeps=dpkg-dev
CHROOT_NEEDS = debootstrap=debootstrap lintian=lintian /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
INIT_NEEDS   = $(CHROOT_NEEDS) systemd-nspawn=systemd-container nsenter=util-linux python3=python3
BENCH_NEEDS  = smtp-source=postfix python3=python3 cc=gcc /usr/include/stdlib.h=libc6-dev
PEER_NEEDS   = debootstrap=debootstrap strace=strace valgrind=valgrind unshare=util-linux mkfs.ext4=e2fsprogs mkfs.f2fs=f2fs-tools mkfs.btrfs=btrfs-progs losetup=mount ip=iproute2 \
              ubiattach=mtd-utils modprobe=kmod cpio=cpio
CROSS_NEEDS  = debootstrap=debootstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
BOOT_NEEDS   = cpio=cpio openssl=openssl readelf=binutils qemu-system-x86_64=qemu-system-x86 qemu-system-arm=qemu-system-arm qemu-system-mipsel=qemu-system-mips qemu-system-riscv64=qemu-system-misc /usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin=opensbi
RUN_NEEDS    = python3=python3 openssl=openssl faketime=faketime setpriv=util-linux
FAULT_NEEDS = strace=strace faketime=faketime setpriv=util-linux prlimit=util-linux mount=mount
TEST_NEEDS  = smtp-source=postfix python3=python3 msmtp=msmtp setpriv=util-linux swaks=swaks curl=curl openssl=openssl dnsmasq=dnsmasq-base mutt=mutt \
              dovecot=dovecot-core /usr/lib/dovecot/imap=dovecot-imapd /usr/lib/dovecot/lmtp=dovecot-lmtpd strace=strace faketime=faketime opendkim=opendkim \
              /usr/lib/python3/dist-packages/dkim=python3-dkim /usr/lib/python3/dist-packages/nacl=python3-nacl \
              s-nail=s-nail sslscan=sslscan /usr/lib/git-core/git-send-email=git-email unbound=unbound ldns-signzone=ldnsutils promtool=prometheus \
              /usr/share/perl5/Authen/SASL.pm=libauthen-sasl-perl /usr/share/perl5/IO/Socket/SSL.pm=libio-socket-ssl-perl \
              cron=cron anacron=anacron atd=at bsd-mailx=bsd-mailx mail.mailutils=mailutils php=php-cli /usr/lib/nagios/plugins/check_mailq=monitoring-plugins-standard mdadm=mdadm smartd=smartmontools \
              logwatch=logwatch node=nodejs /usr/share/nodejs/nodemailer/package.json=node-nodemailer \
              /usr/share/php/libphp-phpmailer/autoload.php=libphp-phpmailer systemd-analyze=systemd busybox=busybox dash=dash zsh=zsh shellcheck=shellcheck mandoc=mandoc groff=groff-base

.PHONY: help run check test peers faults lint bench bench-all install install-files deb test-deb test-init check-32 cross cross-twice cross-run cross-boot cross-count clean

help: ## this text
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1	/p' Makefile | expand -t 16

run: $(BINARY) ## build, start, send an alert through it, show where it arrived; ONCE=1 ends then
	@ONCE=$(ONCE) $(TOOLS)/run $(BINARY)

check: ## formatting, clippy, the library's tests, transcripts, cases, documents: no other program, nothing to install
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo test --quiet --doc
	cargo test --quiet --lib --test integration --no-fail-fast

test: ## all tests, as CI runs them; installs the programs that they talk to
	@$(TOOLS)/need $(BUILD_NEEDS)
	@mkdir -p $(TARGET)
	@# What waits for the network, and the release build, which keeps one processor busy, go beside the debug build and its tests.
	@$(TOOLS)/beside $(TARGET)/beside.log $(MAKE) --no-print-directory peers $(BINARY) test-deb test-init check-32 -- $(MAKE) --no-print-directory check
	@$(TOOLS)/need $(TEST_NEEDS)
	@$(MAKE) --no-print-directory $(BINARY)
	@# Most of these tests wait for a time-out or a peer, so the processors have room for two more threads than there are.
	PILLARBOX_RELEASE=$(BINARY) RUST_TEST_THREADS=$$(($$(nproc) + 2)) cargo test --quiet --test interop --test faults --no-fail-fast

# The programs that the tests talk to.
peers:
	@$(TOOLS)/need $(TEST_NEEDS) $(INIT_NEEDS) $(DEB_NEEDS)
	@$(TOOLS)/unpack $(TARGET)/peers exim4-daemon-light nullmailer

faults: $(BINARY) ## about an hour of kills, power cuts, failing system calls, full disks and hostile peers, and a line of figures for each
	@$(TOOLS)/need $(BUILD_NEEDS) $(FAULT_NEEDS)
	PILLARBOX_FAULTS=full PILLARBOX_RELEASE=$(BINARY) cargo test --quiet --test faults --no-fail-fast -- --nocapture --test-threads=1
	PILLARBOX_FAULTS=full PILLARBOX_RELEASE=$(BINARY) cargo test --quiet --test interop -- --nocapture memory_does_not_grow

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: $(BINARY) ## messages a second, calls of sendmail, a start, memory, in some minutes; BEFORE=PROGRAM beside another build
	@$(TOOLS)/need $(BENCH_NEEDS)
	@PILLARBOX=$(BINARY) BEFORE=$(BEFORE) python3 tests/bench main --bare --rounds 1

bench-all: $(BINARY) ## all tables of docs/performance.md, beside other mail servers, as root; WHAT=main, BEFORE=PROGRAM, DOCUMENT=PAGE
	@$(TOOLS)/need $(BENCH_NEEDS) $(PEER_NEEDS)
	@PILLARBOX=$(BINARY) BEFORE=$(BEFORE) MIRROR=$(MIRROR) python3 tests/bench $(WHAT) $(if $(DOCUMENT),--document $(DOCUMENT))

install: $(BINARY) install-files ## program, its other names, manual, completions, service files, hooks, configuration unless there is one; DESTDIR=, PREFIX=/usr/local, INIT=systemd|openrc|openwrt

# Hooks go where their callers are, or into any DESTDIR, which is a package's.
install-files:
	$(INSTALL) 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/pillarbox
	for name in sendmail mailq newaliases; do ln -sf pillarbox $(DESTDIR)$(PREFIX)/sbin/$$name; done
	for section in 1 5 8; do $(INSTALL) 644 -t $(DESTDIR)$(PREFIX)/share/man/man$$section etc/man/man$$section/* || exit; done
	$(INSTALL) 644 -t $(DESTDIR)$(PREFIX)/share/doc/pillarbox/examples etc/aliases
	test -e $(DESTDIR)/etc/pillarbox/pillarbox.toml || \
	    $(INSTALL) 644 -t $(DESTDIR)/etc/pillarbox etc/pillarbox/pillarbox.toml
ifeq ($(INIT),openwrt)
	$(INSTALL) 755 -t $(DESTDIR)/etc/init.d packaging/openwrt/init.d/pillarbox
	sed -i 's|/usr/sbin|$(PREFIX)/sbin|' $(DESTDIR)/etc/init.d/pillarbox
	$(INSTALL) 755 packaging/hooks/pillarbox $(DESTDIR)/etc/hotplug.d/iface/90-pillarbox
	test -e $(DESTDIR)/etc/config/pillarbox || $(INSTALL) 600 -t $(DESTDIR)/etc/config packaging/openwrt/config/pillarbox
else
	$(INSTALL) 644 -t $(DESTDIR)/etc/fail2ban/filter.d etc/fail2ban/filter.d/*
	$(INSTALL) 644 etc/completions/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pillarbox
	$(INSTALL) 644 etc/completions/zsh $(DESTDIR)$(ZSH)/_pillarbox
	for hook in NetworkManager/dispatcher.d/90-pillarbox network/if-up.d/pillarbox network/if-down.d/pillarbox \
	        ppp/ip-up.d/90pillarbox ppp/ip-down.d/90pillarbox; do \
	    test -z "$(DESTDIR)" -a ! -d /etc/$${hook%/*} || $(INSTALL) 755 packaging/hooks/pillarbox $(DESTDIR)/etc/$$hook || exit; \
	done
endif
ifeq ($(INIT),openrc)
	$(INSTALL) 755 -t $(DESTDIR)/etc/init.d packaging/openrc/pillarbox
	sed -i 's|/usr/local/sbin|$(PREFIX)/sbin|' $(DESTDIR)/etc/init.d/pillarbox
endif
ifeq ($(INIT),systemd)
	$(INSTALL) 644 -t $(DESTDIR)$(UNITS) etc/systemd/system/*
	$(INSTALL) 644 -t $(DESTDIR)$(TMPFILES) etc/tmpfiles.d/*
	$(INSTALL) 644 -t $(DESTDIR)$(PREFIX)/share/doc/pillarbox/examples etc/systemd/local-users.conf
	sed -i 's|/usr/local/sbin|$(PREFIX)/sbin|' $(DESTDIR)$(UNITS)/pillarbox.service
endif

deb: $(BINARY) ## a Debian package of it, target/pillarbox_VERSION_ARCH.deb
	@$(TOOLS)/need $(DEB_NEEDS)
	@packaging/debian/build $(BINARY) $(TARGET)

test-deb: deb ## the package in a Debian of its own: installed, upgraded with a full queue, removed, purged; MIRROR=
	@$(TOOLS)/need $(CHROOT_NEEDS)
	@MIRROR=$(MIRROR) $(TOOLS)/test-deb $(TARGET)

test-init: deb ## the service files under the real systemd, booted in a container, and the real OpenRC; MIRROR=
	@$(TOOLS)/need $(INIT_NEEDS)
	@MIRROR=$(MIRROR) $(TOOLS)/test-init $(TARGET)

check-32: ## whether it compiles for 32 bits, and with the oldest Rust that Cargo.toml names
	@$(TOOLS)/need $(BUILD_NEEDS)
	@$(TOOLS)/check-32 $(TARGET)/check-32

cross: ## a small program for another box: ARCH=amd64|arm64|armhf|mipsel|riscv64 LIBC=gnu|musl, target/cross/ARCH-LIBC/
	@$(TOOLS)/need $(CROSS_NEEDS)
	@mkdir -p $(TARGET)
	@MIRROR=$(MIRROR) packaging/cross/build $(ARCH) $(LIBC) $(TARGET)

cross-twice: ## the same, built twice in two directories: the same octets
	@$(TOOLS)/need $(CROSS_NEEDS)
	@mkdir -p $(TARGET)
	@MIRROR=$(MIRROR) packaging/cross/build $(ARCH) $(LIBC) $(TARGET) twice

cross-run: ## runs what make cross has built, where need be by an emulator
	@$(TOOLS)/need $(RUN_NEEDS)
	@tests/cross/run $(ARCH) $(LIBC) $(TARGET)

cross-boot: ## the same under a real kernel of that processor, in an emulated machine
	@$(TOOLS)/need $(CROSS_NEEDS) $(BOOT_NEEDS)
	@MIRROR=$(MIRROR) tests/cross/boot $(ARCH) $(LIBC) $(TARGET)

cross-count: ## instructions of a message and of sendmail in what make cross has built, as the emulator counts them
	@$(TOOLS)/need $(RUN_NEEDS)
	@tests/cross/instructions $(ARCH) $(LIBC) $(TARGET)

clean: ## remove all that was built, and the mail of make run
	rm -rf $(TARGET) tests/fuzz/target

$(BINARY): Cargo.toml Cargo.lock $(shell find src -type f)
	@$(TOOLS)/need $(BUILD_NEEDS)
	cargo build --release --locked $$($(TOOLS)/linker-flags)
	@touch $@
