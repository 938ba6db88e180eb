const { resolve } = require('node:path');

module.exports = {
  resolve: {
    alias: { '#libs': resolve(__dirname, 'libs') },
    extensionAlias: { '.js': ['.ts', '.js'] },
  },
};
