"""The configuration of the tests' Dovecot (2.3)."""

from __future__ import annotations

from string import Template

# `local` blocks choose settings by the address connected to: each way of being secured has a loopback address.
NO_TLS_HOST, STRICT_HOST, EXPIRED_HOST, WRONG_NAME_HOST = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
CAPPED_HOST = "127.0.0.6"  # two connections a user

CONFIG = Template("""
base_dir = $base/run
state_dir = $base/state
log_path = $base/dovecot.log
auth_verbose = yes
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
default_vsz_limit = 0
protocols = imap
listen = 127.0.0.1

auth_mechanisms = plain login xoauth2 oauthbearer
auth_username_chars =
auth_username_format = %u
auth_failure_delay = 0
login_trusted_networks = 127.0.0.1
disable_plaintext_auth = yes
mail_max_userip_connections = 10000

ssl = yes
ssl_cert = <$good_chain
ssl_key = <$good_key
local $no_tls_host {
  ssl = no
}
local $strict_host {
  ssl = required
  login_trusted_networks =
}
local $capped_host {
  mail_max_userip_connections = 2
}
local $expired_host {
  ssl_cert = <$expired_chain
  ssl_key = <$expired_key
}
local $wrong_name_host {
  ssl_cert = <$wrong_name_chain
  ssl_key = <$wrong_name_key
}

mail_location = maildir:~/Maildir
mail_save_crlf = yes
mail_fsync = never
first_valid_uid = 1
namespace inbox {
  inbox = yes
  separator = /
}

passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $base/oauth2.conf
}
passdb {
  driver = dict
  mechanisms = plain login none
  args = $base/passdb.conf
}
userdb {
  driver = static
  args = uid=$uid gid=$gid home=$base/mail/%Mu
}

protocol imap {
  mail_plugins = imap_zlib
}

service imap-login {
  chroot =
  service_count = 0
  process_min_avail = 1
  client_limit = 4096
  inet_listener imap {
    address = $plain_hosts
    port = $plain_port
  }
  inet_listener imaps {
    address = $tls_hosts
    port = $tls_port
    ssl = yes
  }
}
service imap {
  process_limit = 4096
}
service anvil {
  chroot =
  client_limit = 12000
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  client_limit = 12000
}
service stats {
  client_limit = 12000
}
""")

# A token is good for whom the tests' OAuth2 server says, asked at each login.
OAUTH2 = Template("""
introspection_mode = post
introspection_url = http://127.0.0.1:$oauth_port/introspect
username_attribute = username
active_attribute = active
active_value = true
timeout_msecs = 5000
""")

# One file a user, named by the MD5 of the name: it is read at each login (a passwd-file is read once a second), and
# neither name nor password needs any escaping of Dovecot's.
PASSDB = Template("""
uri = fs:posix:prefix=$base/
iterate_disable = yes
passdb_objects = passdb
key passdb {
  key = passwords/%Mu
  format = json
}
""")
