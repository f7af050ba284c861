From: a@b
Subject: x

hello
