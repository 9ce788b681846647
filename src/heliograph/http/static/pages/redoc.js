Redoc.init(document.currentScript.dataset.openapi, {}, document.getElementById("redoc"));
