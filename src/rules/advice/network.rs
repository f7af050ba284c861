//! Advice for the connection, DNS and TLS, and for what receivers check of this host.

use super::row::Hint;
use super::step::Stage;

const CONNECT: &[Stage] = &[Stage::Connect];
const DNS: &[Stage] = &[Stage::Mx, Stage::Address, Stage::Policy];
/// Every step that queries DNS.
const LOOK_UPS: &[Stage] =
    &[Stage::Mx, Stage::Address, Stage::Policy, Stage::Spf, Stage::Dkim, Stage::Dmarc, Stage::Ptr];
const TLS: &[Stage] = &[Stage::StartTls, Stage::Tls];
/// Every step at which a host may say what it thinks of the client certificate: in TLS 1.3 it does so after the handshake.
const SHOWN: &[Stage] = &[Stage::StartTls, Stage::Tls, Stage::Greeting, Stage::Ehlo];
const TIMED: &[Stage] = &[
    Stage::Mx,
    Stage::Address,
    Stage::Policy,
    Stage::Spf,
    Stage::Dkim,
    Stage::Dmarc,
    Stage::Ptr,
    Stage::Connect,
];

const fn row(stages: &'static [Stage], when: &'static str, advice: &'static str) -> Hint {
    Hint { stages, about: None, when, advice }
}

/// Rows for steps between this host and another one.
pub(super) const ROWS: &[Hint] = &[
    // The connection.
    row(
        CONNECT,
        ":25]: timed out",
        "Port 25 is blocked, most often by the internet provider: set relay.smarthost to a host with port 465 or 587, or ask \
         the provider to open port 25.",
    ),
    row(
        CONNECT,
        "%mx&:25]: connection refused|%mx&:25]: connection reset|%mx&refused",
        "The MX host, or a firewall on the way, rejects connections to port 25, as internet providers do for home \
         connections: set relay.smarthost to a host with port 465 or 587, or ask the provider to open port 25.",
    ),
    row(
        CONNECT,
        "=not by ipv6|network is unreachable&[[|no route to host&[[|cannot assign&[[",
        "This host has no IPv6 route: add one, or set relay.family = \"ipv4\".",
    ),
    row(CONNECT, "=not by ipv4", "This host has no IPv4 route: add one, or set relay.family = \"ipv6\"."),
    row(
        CONNECT,
        "network is unreachable|no route to host|network is down",
        "This host has no route: check its link, address and default route.",
    ),
    row(
        CONNECT,
        "from &assign|from &cannot assign requested address",
        "This host does not have the address that relay.source names: correct it, or leave it out.",
    ),
    row(
        CONNECT,
        "refused|connection reset|connection closed",
        "Nothing listens on this port: check host name and port in relay.smarthost or relay.routes.",
    ),
    row(
        CONNECT,
        "timed out",
        "Nothing answers there: check host name and port, and whether a firewall on the way drops the connection.",
    ),
    row(
        TIMED,
        "time of the probe is over",
        "The steps before took all of the time: look at the slow ones above.",
    ),
    // DNS.
    row(
        LOOK_UPS,
        "127.0.0.1:53&refused|cannot ask 127.0.0.1:53 (connection refused",
        "There is no name server: /etc/resolv.conf is empty, or names this host, which runs none. Name one there, or in \
         dns.servers.",
    ),
    row(
        LOOK_UPS,
        "no answer|within|temporary failure in name resolution|servfail|cannot ask|refused|does not answer",
        "The name server does not answer: check /etc/resolv.conf or dns.servers, and the link.",
    ),
    row(
        LOOK_UPS,
        "hangs, so the probe ends",
        "The look-up of a name hangs: check /etc/resolv.conf or dns.servers, and the link.",
    ),
    row(DNS, "null mx", "This domain accepts no mail: check the spelling of the address."),
    row(
        DNS,
        "smarthost&this host itself|comes back to this host",
        "Mail for this domain leads back to this host: put the domain into local.domains, or correct its MX or \
         relay.smarthost.",
    ),
    row(
        DNS,
        "smarthost&not known|smarthost&nxdomain|smarthost&no address|smarthost&resolved|\
         smarthost&does not exist (nxdomain)",
        "DNS does not know the smarthost: check the spelling in relay.smarthost.",
    ),
    row(
        DNS,
        "smarthost&temporary failure in name resolution|smarthost&resolved: no answer|smarthost&resolved: cannot ask",
        "The name server does not answer: check /etc/resolv.conf or dns.servers, and the link.",
    ),
    row(
        &[Stage::Address],
        "=the answer is 0.0.0.0",
        "The name server blocks this name, as filters against advertising do (Pi-hole, AdGuard): allow the name there, or set \
         dns.servers to another one.",
    ),
    row(
        &[Stage::Address],
        "search domain",
        "The name itself does not exist, so the network's search domain was added to it: check the spelling in \
         relay.smarthost.",
    ),
    row(
        DNS,
        "nxdomain|does not exist|not a domain|not ascii",
        "The domain does not exist: check the spelling of the address.",
    ),
    row(
        DNS,
        "=is a cname of&which does not exist",
        "The name is an alias of one that does not exist: the operator of its domain has to correct the CNAME record.",
    ),
    row(DNS, "no address", "The host has no usable address: check relay.family, and the host's DNS records."),
    row(
        DNS,
        "mta-sts|tlsa",
        "The receiving domain's policy forbids this host: its operator has to correct it; relay.mta_sts and relay.dane \
         switch the checks off.",
    ),
    // TLS.
    row(
        SHOWN,
        "wants a client certificate|want of a client certificate|no client certificate",
        "The host wants a client certificate: name it in relay.certificate, and its key in relay.key.",
    ),
    row(
        SHOWN,
        "not accept the client certificate|because of the client certificate|client certificate not trusted",
        "The host does not take the client certificate: its operator has to trust the issuer or the fingerprint; or name \
         another one in relay.certificate.",
    ),
    row(
        TLS,
        "has not the fingerprint",
        "The host has another certificate than relay.fingerprint says: if its operator renewed it, write the new \
         fingerprint; if nobody did, another host answers in its place.",
    ),
    row(
        TLS,
        "expired|not yet valid",
        "Check the date of this host: if it is wrong, set the clock (NTP); if it is right, the host's operator has to renew \
         the certificate.",
    ),
    row(
        TLS,
        "self-signed|self signed|unable to get local issuer|unable to get issuer|unable to verify",
        "The certificate has an unknown issuer: set relay.ca_file to a file with the issuer's certificate, or install the \
         package ca-certificates; for a host of your own set relay.fingerprint.",
    ),
    row(
        TLS,
        "@127.0.0.1&self-signed|@127.0.0.1&self signed|@localhost&self-signed|@localhost&self signed",
        "A program on this host (such as Proton Mail Bridge) has a certificate of its own: export it there, and set \
         relay.ca_file to that file; or use smtp://, since nobody else can read this connection.",
    ),
    row(
        TLS,
        "hostname mismatch|ip address mismatch",
        "The certificate is for another name: use that name in relay.smarthost, or set relay.tls_name to it.",
    ),
    row(
        TLS,
        "%mx&=self-signed|%mx&=self signed|%mx&=unable to get local issuer|%mx&=unable to get issuer|%mx&=unable to verify|\
         %mx&=hostname mismatch|%mx&=ip address mismatch|mta-sts policy of the domain requires verified tls",
        "The MX host shows a certificate that is not valid for it, and the policy of its domain (MTA-STS), or relay.tls, wants \
         a valid one: its operator has to correct it; relay.mta_sts = false sends without this check.",
    ),
    row(
        TLS,
        "wrong version number|packet length too long|record layer failure",
        "This port does not start with TLS: use smtp+starttls:// (587), or port 465 with smtps://.",
    ),
    row(
        TLS,
        "unsupported protocol|protocol version|no protocols|legacy|no shared cipher|handshake failure",
        "The two hosts have no TLS version in common: pillarbox needs TLS 1.2 or newer. The host's operator has to update \
         it; in a trusted network smtp:// works without TLS.",
    ),
    row(
        TLS,
        "key too small|key too weak|md too weak|dh key too small",
        "The host has a key or a certificate that is too weak to be safe: its operator has to renew it; in a trusted network \
         smtp:// works without TLS.",
    ),
    row(
        TLS,
        "tlsa",
        "The certificate does not match the domain's TLSA records: the domain's operator has to correct one of them.",
    ),
    row(
        TLS,
        "does not offer starttls",
        "Use smtps:// if this is port 465, or another port or host: without TLS nothing is sent there.",
    ),
    // Hosts that hang or cut the connection.
    row(
        &[Stage::Greeting],
        "port 465&timed out",
        "This port speaks TLS from the start: use smtps:// in relay.smarthost.",
    ),
    row(
        &[Stage::Greeting],
        "speaks no smtp",
        "The server on this port does not speak SMTP: check host name and port.",
    ),
    row(
        &[Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth],
        "220 ****|xxxxxxxa|=rewrites smtp",
        "A firewall on the way rewrites SMTP (\"SMTP fixup\", \"ESMTP inspection\" of Cisco PIX and ASA), which breaks TLS and \
         logins: have the inspection switched off, or use smtps:// (port 465).",
    ),
    row(
        &[Stage::Greeting],
        "timed out",
        "The host accepts connections and sends no greeting, as a firewall or mail proxy in between does: try another port.",
    ),
    row(
        &[Stage::Ehlo],
        "timed out",
        "The host greets and then says nothing, as a firewall that inspects SMTP or a wrong MTU on the way does: try another \
         port, or a smaller MTU.",
    ),
    row(
        TLS,
        "timed out",
        "The host stops at the TLS handshake, as a firewall that inspects it or a wrong MTU on the way does: try another \
         port, or a smaller MTU.",
    ),
    row(
        &[Stage::Auth],
        "timed out",
        "The host does not answer the login, as when its user database is down: try again later, then ask its operator.",
    ),
    row(
        &[Stage::Mail, Stage::Rcpt],
        "timed out",
        "The host does not answer this command, as when it waits for a check of its own: the queue tries again; if it stays \
         so, ask its operator.",
    ),
    row(
        &[Stage::Send],
        "timed out",
        "The host does not answer to the message, or takes it too slowly: the queue tries again; if only large messages fail, \
         try a smaller MTU.",
    ),
    row(
        &[Stage::Greeting],
        "connection closed|broke while|reset by peer",
        "The host closes the connection before it greets: it may refuse the address of this host, or have too many \
         connections. Try again later, or send by a smarthost.",
    ),
    row(
        &[Stage::Ehlo, Stage::StartTls, Stage::Auth],
        "connection closed|broke while|reset by peer",
        "The host or a firewall on the way cut the connection at this step: try another port, or ask the host's operator.",
    ),
    row(
        &[Stage::Mail, Stage::Rcpt, Stage::Send],
        "connection closed|broke while|reset by peer",
        "The host cut the connection at this command, as filters do with clients that they distrust: the queue tries again; \
         if it stays so, send by a smarthost, or ask the host's operator.",
    ),
    row(
        &[Stage::Tls],
        "connection closed|reset by peer|unexpected eof",
        "The host cut the connection within the TLS handshake: check the port, and whether a firewall on the way inspects \
         TLS.",
    ),
    // Checks of receivers.
    row(
        &[Stage::Ptr],
        "no name|does not lead back",
        "Ask the internet provider for a PTR record with the name of this host, whose address must be this one, or send by \
         a smarthost: big providers refuse mail without it.",
    ),
    row(
        &[Stage::Spf, Stage::Ptr],
        "public address",
        "This host is behind NAT: publish its public address for hostname in DNS, so that this can be checked.",
    ),
    row(
        &[Stage::Spf],
        "no spf record",
        "Publish a TXT record of the sender's domain, such as \"v=spf1 a mx -all\".",
    ),
    row(
        &[Stage::Spf],
        "forbids|softfail|neutral",
        "Add the address of this host to the SPF record (ip4:, ip6:), or send by the smarthost of that domain.",
    ),
    row(
        &[Stage::Dkim],
        "no [[dkim]]",
        "Make a key, set up [[dkim]], and publish the key: receivers trust signed mail more.",
    ),
    row(
        &[Stage::Dkim],
        "no txt record|another key",
        "Publish the public half of the key in the named TXT record, or correct domain and selector in [[dkim]].",
    ),
    row(
        &[Stage::Dmarc],
        "no dmarc record",
        "Publish a TXT record _dmarc of the sender's domain, such as \"v=DMARC1; p=none\": big providers require one.",
    ),
    row(
        &[Stage::Dmarc],
        "neither spf nor dkim",
        "Set up [[dkim]] for the sender's domain, add this host to its SPF record, or send by its smarthost: otherwise \
         receivers refuse this mail.",
    ),
];
