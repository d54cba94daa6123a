# wit-bindgen cpp 0.60 takes the number of a borrowed handle for the address of an object: make the object, which gives
# the handle back when the call is over.
s/std::ref(\*(\(gatepost::policy::message::[A-Za-z]*\) \*)\(arg[0-9]*\))/std::cref(static_cast<const \1\&>(\1(wit::ResourceImportBase(\2))))/g
# And it puts a span that it is given into a vector of its own.
s/wit::vector<uint8_t> \(payload[0-9]*\) = /auto \1 = /
