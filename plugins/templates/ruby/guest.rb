# What the stages are given, besides the module `Host` of `guest.c`.

Session = Struct.new(:client)
Recipient = Struct.new(:address)
