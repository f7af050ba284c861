# make help tells the targets.

PREFIX  = /usr/local
DESTDIR =
ONCE    =
PEERS   = pillarbox,postfix,opensmtpd
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BINARY := $(TARGET)/release/pillarbox
TOOLS  := tests/tools
INSTALL = install -D -m

# Where rustup puts cargo, and Debian its servers, if the shell does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# What the build needs, and what the tests talk to, as PROGRAM=PACKAGE.
BUILD_NEEDS = cc=gcc /usr/include/stdlib.h=libc6-dev pkg-config=pkg-config /usr/include/openssl/ssl.h=libssl-dev
BENCH_NEEDS = smtp-source=postfix
TEST_NEEDS  = $(BENCH_NEEDS) setpriv=util-linux swaks=swaks curl=curl openssl=openssl python3=python3 dnsmasq=dnsmasq-base mutt=mutt msmtp=msmtp \
              dovecot=dovecot-core /usr/lib/dovecot/imap=dovecot-imapd /usr/lib/dovecot/lmtp=dovecot-lmtpd strace=strace faketime=faketime opendkim=opendkim \
              /usr/lib/python3/dist-packages/dkim=python3-dkim /usr/lib/python3/dist-packages/nacl=python3-nacl \
              s-nail=s-nail sslscan=sslscan /usr/lib/git-core/git-send-email=git-email unbound=unbound ldns-signzone=ldnsutils \
              /usr/share/perl5/Authen/SASL.pm=libauthen-sasl-perl /usr/share/perl5/IO/Socket/SSL.pm=libio-socket-ssl-perl

.PHONY: help run test lint bench install clean

help: ## this text
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 16

run: $(BINARY) ## build, start, send an alert through it, show where it arrived; ONCE=1 ends then
	@ONCE=$(ONCE) $(TOOLS)/run $(BINARY)

test: $(BINARY) ## all tests, as CI runs them; installs the programs that they talk to
	@$(TOOLS)/need $(BUILD_NEEDS) $(TEST_NEEDS)
	@$(TOOLS)/unpack $(TARGET)/peers exim4-daemon-light
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo test --quiet --doc
	PILLARBOX_RELEASE=$(BINARY) cargo test --quiet --lib --test integration --no-fail-fast

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: $(BINARY) ## messages a second; with ../shared/bench beside other mail servers (PEERS=a,b)
	@$(TOOLS)/need $(BENCH_NEEDS)
	@PEERS=$(PEERS) $(TOOLS)/bench $(BINARY)

install: $(BINARY) ## program, sendmail, mailq and newaliases as links to it, manual, systemd units, fail2ban filter and configuration, unless there is one; DESTDIR=, PREFIX=/usr/local
	$(INSTALL) 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/pillarbox
	for name in sendmail mailq newaliases; do ln -sf pillarbox $(DESTDIR)$(PREFIX)/sbin/$$name; done
	$(INSTALL) 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 etc/man/man5/*
	$(INSTALL) 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 etc/man/man8/*
	$(INSTALL) 644 -t $(DESTDIR)/etc/systemd/system etc/systemd/system/*
	$(INSTALL) 644 -t $(DESTDIR)/etc/fail2ban/filter.d etc/fail2ban/filter.d/*
	sed -i 's|/usr/local/sbin|$(PREFIX)/sbin|' $(DESTDIR)/etc/systemd/system/pillarbox.service
	test -e $(DESTDIR)/etc/pillarbox/pillarbox.toml || \
	    $(INSTALL) 644 -t $(DESTDIR)/etc/pillarbox etc/pillarbox/pillarbox.toml

clean: ## remove all that was built, and the mail of make run
	rm -rf target tests/fuzz/target

$(BINARY): Cargo.toml Cargo.lock $(shell find src -type f)
	@$(TOOLS)/need $(BUILD_NEEDS)
	cargo build --release --locked
	@touch $@
